"""Reading of a picture by OpenCV as tutorials write it, their CNN, and their Flask app.

.venv-peers/bin/gunicorn "benchmarks.peers.opencv:app()"
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from flask import Flask, Response, jsonify, request

WEIGHTS = Path("service/weights/digits.safetensors")
SIDE, BOX, MAX_GREY = 28, 20, 255
BLUR = (5, 5)  # pixels
KERNEL, N_FILTERS, N_HIDDEN, N_CLASSES = 3, (32, 64), 128, 10  # of the CNN of Keras' example

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class NoContour(ValueError):
    """There is no ink in a picture."""


def read(upload: bytes) -> Image:
    """Read an upload as an image (28, 28)."""
    grey = cv2.imdecode(np.frombuffer(upload, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise NoContour("this is no picture")
    return find(np.asarray(grey, np.uint8))


def find(grey: Image) -> Image:
    """Find the digit in grey levels (h, w): blur, Otsu, contour, crop, resize, centre.

    The ink is what covers less than half of the picture.
    """
    blurred = cv2.GaussianBlur(grey, BLUR, 0)
    _, mask = cv2.threshold(blurred, 0, MAX_GREY, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if 2 * cv2.countNonZero(mask) > mask.size:
        mask = cv2.bitwise_not(mask)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        raise NoContour("no digit found")
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    scale = BOX / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(mask[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)
    moments = cv2.moments(small)
    to_centre = [SIDE / 2 - moments[m] / max(moments["m00"], 1) for m in ("m10", "m01")]
    shift = np.array([[1, 0, round(to_centre[0])], [0, 1, round(to_centre[1])]], np.float32)
    return np.asarray(cv2.warpAffine(small, shift, (SIDE, SIDE)), np.uint8)


class Cnn:
    """The CNN of Keras' MNIST example, with random weights, on one thread by numpy.

    It answers nothing of use, but takes the time of a trained one: torch takes 1.2 times as
    long for one image.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        pooled = (SIDE - 2 * (KERNEL - 1)) // 2
        n_inputs = (KERNEL**2, KERNEL**2 * N_FILTERS[0], pooled**2 * N_FILTERS[1], N_HIDDEN)
        n_outputs = (*N_FILTERS, N_HIDDEN, N_CLASSES)
        self.weights = [
            rng.normal(0, n**-0.5, (n, k)).astype(np.float32)
            for n, k in zip(n_inputs, n_outputs, strict=True)
        ]

    def __call__(self, image: Image) -> Floats:
        """Return probabilities (10,) for an image (28, 28)."""
        first, second, hidden, last = self.weights
        levels = image[..., np.newaxis].astype(np.float32) / np.float32(MAX_GREY)
        x = _convolved(_convolved(levels, first), second)
        half = len(x) // 2
        x = x.reshape(half, 2, half, 2, -1).max((1, 3)).ravel()
        scores = np.exp(np.maximum(x @ hidden, 0) @ last)
        return scores / scores.sum()


def _convolved(x: Floats, weight: Floats) -> Floats:
    """Convolve (h, w, c) with filters (KERNEL² c, n) without padding; apply ReLU."""
    height, width = (side - KERNEL + 1 for side in x.shape[:2])
    patches = np.empty((height, width, KERNEL**2, x.shape[2]), np.float32)
    for k in range(KERNEL**2):
        i, j = divmod(k, KERNEL)
        patches[:, :, k] = x[i : i + height, j : j + width]
    product = patches.reshape(height * width, -1) @ weight
    return np.maximum(product, 0).reshape(height, width, -1)


def app() -> Flask:
    """Return a tutorial's application, with the service's model in place of a CNN."""
    from service.classifier import load

    flask, classifier = Flask(__name__), load(WEIGHTS)

    @flask.post("/predict")
    def predict() -> tuple[Response, int]:
        try:
            image = read(request.files["image"].read())
        except NoContour as error:
            return jsonify(error=str(error)), 422
        probabilities = classifier.predict_proba(image[np.newaxis])[0].tolist()
        digit = int(np.argmax(probabilities))
        reply = jsonify(digit=digit, probability=probabilities[digit], probabilities=probabilities)
        return reply, 200

    return flask
