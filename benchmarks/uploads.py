"""Images and PNG files that the benchmarks post."""

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.classifier import load
from service.settings import EMBEDDED_WEIGHTS
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import cache_folder, load_mnist
from training.data.synthetic import draw_digits

MNIST_FOLDER = Path(os.environ.get("DIGITS_MNIST") or cache_folder(os.environ) / "mnist")


def find_mnist() -> DataSet | None:
    """Return MNIST if it is on this machine, else None; never download it."""
    try:
        return load_mnist(MNIST_FOLDER, MNIST_FOLDER, mirrors=())
    except InvalidData:
        return None


def test_images(n: int) -> npt.NDArray[np.uint8]:
    """Return n test images of MNIST, or synthetic digits without it: (n, 28, 28).

    Those that the shipped weights refuse are left out: load generators count them as failures.
    """
    mnist = find_mnist()
    if not mnist:
        print(f"no MNIST in {MNIST_FOLDER}: using synthetic digits")
    images = (mnist or draw_digits(10, 2 * n)).test.images[: 2 * n]
    shipped = load(EMBEDDED_WEIGHTS)
    return np.delete(images, shipped.refused(shipped.score(images)), axis=0)[:n]


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image as a PNG with Pillow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
