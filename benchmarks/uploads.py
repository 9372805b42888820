"""Images and PNG files that the benchmarks post."""

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

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
    """Return n test images of MNIST, or synthetic digits without it: (n, 28, 28)."""
    mnist = find_mnist()
    if mnist:
        return mnist.test.images[:n]
    print(f"no MNIST in {MNIST_FOLDER}: using synthetic digits")
    return draw_digits(10, n).test.images


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image as a PNG with Pillow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
