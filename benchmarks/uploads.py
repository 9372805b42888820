"""The digits that are posted in benchmarks."""

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data import InvalidData
from training.mnist import load_mnist
from training.synthetic import draw_digits

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def test_images(n: int) -> npt.NDArray[np.uint8]:
    """Take digits of MNIST's test set (n, 28, 28), or drawn ones where it is not."""
    folder = Path(os.environ.get("DIGITS_MNIST") or CACHE / "digits" / "mnist")
    try:
        return load_mnist(folder, folder, mirrors=()).test.images[:n]
    except InvalidData:
        print(f"no MNIST in {folder}: drawn digits instead")
        return draw_digits(10, n).test.images


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image as Pillow does."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
