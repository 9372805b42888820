"""The classifier served by BentoML.

bentoml serve benchmarks.peers.bento:Digits    (READING=opencv for pictures of any size)
"""

import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from benchmarks.peers import opencv
from service import classifier

WEIGHTS = Path("service/weights/digits.safetensors")
BY_OPENCV = os.environ.get("READING") == "opencv"


@bentoml.service(
    workers=2,
    envs=[{"name": "OPENBLAS_NUM_THREADS", "value": "1"}],
    logging={"access": {"enabled": False}},
)
class Digits:
    """Classifies the file `image` of the form at POST /predict."""

    def __init__(self) -> None:
        self.classifier = classifier.load(WEIGHTS)

    @bentoml.api  # type: ignore[untyped-decorator]  # not installed in .venv
    def predict(self, image: Image) -> dict[str, Any]:
        """Classify one picture, of 28 x 28 pixels if OpenCV does not read it."""
        pixels = opencv.find(np.asarray(image.convert("L"))) if BY_OPENCV else np.asarray(image)
        probabilities = self.classifier.predict_proba(pixels[np.newaxis])[0]
        return {
            "digit": int(probabilities.argmax()),
            "probability": float(probabilities.max()),
            "probabilities": probabilities.tolist(),
        }
