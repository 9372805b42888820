"""Serve the classifier with LitServe: PORT=8000 python -m benchmarks.peers.lit."""

import os
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import numpy.typing as npt
from fastapi import Request
from PIL import Image

from service import classifier

WEIGHTS = Path("service/weights/digits.safetensors")


class Digits(litserve.LitAPI):
    """Answers POST /predict with the digit in the form's file `image`."""

    def setup(self, device: str) -> None:
        """Load the weights, once in every worker."""
        self.classifier = classifier.load(WEIGHTS)

    def decode_request(self, request: Request) -> npt.NDArray[np.uint8]:
        """Read the picture of 28 x 28 grey pixels."""
        return np.asarray(Image.open(request["image"].file))

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Give the probabilities of the ten digits."""
        return self.classifier.predict_proba(image[np.newaxis])[0]

    def encode_response(self, probabilities: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Write the reply."""
        return {
            "digit": int(probabilities.argmax()),
            "probability": float(probabilities.max()),
            "probabilities": probabilities.tolist(),
        }


if __name__ == "__main__":
    # the workers are spawned, and read it as they import numpy
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    litserve.LitServer(Digits(), accelerator="cpu", workers_per_device=2).run(
        host="127.0.0.1",
        port=os.environ["PORT"],
        log_level="warning",
        generate_client_file=False,
    )
