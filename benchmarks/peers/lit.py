"""The classifier served by LitServe.

PORT=8000 python -m benchmarks.peers.lit    (READING=opencv for pictures of any size)
"""

import os
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import numpy.typing as npt
from fastapi import Request
from PIL import Image

from benchmarks.peers import opencv
from service import classifier

WEIGHTS = Path("service/weights/digits.safetensors")
BY_OPENCV = os.environ.get("READING") == "opencv"


class Digits(litserve.LitAPI):  # type: ignore[misc]  # not installed in .venv
    """Classifies the file `image` of the form at POST /predict."""

    def setup(self, device: str) -> None:
        """Load the weights in every worker."""
        self.classifier = classifier.load(WEIGHTS)

    def decode_request(self, request: Request) -> npt.NDArray[np.uint8]:
        """Read the picture as an image (28, 28)."""
        file = request["image"].file
        return opencv.read(file.read()) if BY_OPENCV else np.asarray(Image.open(file))

    def predict(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the probabilities of the ten digits."""
        return self.classifier.predict_proba(image[np.newaxis])[0]

    def encode_response(self, probabilities: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Return the JSON reply."""
        return {
            "digit": int(probabilities.argmax()),
            "probability": float(probabilities.max()),
            "probabilities": probabilities.tolist(),
        }


if __name__ == "__main__":
    # read by the spawned workers when they import numpy
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    litserve.LitServer(Digits(), accelerator="cpu", workers_per_device=2).run(
        host="127.0.0.1", port=os.environ["PORT"], log_level="warning", generate_client_file=False
    )
