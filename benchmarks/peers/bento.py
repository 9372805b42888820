"""Serve the classifier with BentoML: bentoml serve benchmarks.peers.bento:Digits."""

from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from service import classifier

WEIGHTS = Path("service/weights/digits.safetensors")


@bentoml.service(
    workers=2,
    envs=[{"name": "OPENBLAS_NUM_THREADS", "value": "1"}],
    logging={"access": {"enabled": False}},
)
class Digits:
    """Answers POST /predict with the digit in the form's file `image`."""

    def __init__(self) -> None:
        self.classifier = classifier.load(WEIGHTS)

    @bentoml.api
    def predict(self, image: Image) -> dict[str, Any]:
        """Classify one picture of 28 x 28 grey pixels."""
        pixels = np.asarray(image)
        probabilities = self.classifier.predict_proba(pixels[np.newaxis])[0]
        return {
            "digit": int(probabilities.argmax()),
            "probability": float(probabilities.max()),
            "probabilities": probabilities.tolist(),
        }
