"""Rotation of images that are like MNIST's."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.features import IMAGE_SIZE
from service.reading.mnist_format import to_mnist_format
from service.reading.morphology import bounding_box
from service.reading.scale import normalised

FINE = 3  # subpixels per pixel of an image that is turned
INK = 0.3  # the least level of a stroke


def turned(image: npt.NDArray[np.uint8], degrees: float) -> npt.NDArray[np.uint8]:
    """Turn an image (28, 28) anticlockwise, and convert it to MNIST's format again."""
    large = Image.fromarray(image).resize([FINE * side for side in IMAGE_SIZE])
    ink = normalised(np.asarray(large.rotate(degrees, Image.Resampling.BICUBIC)))
    mask = ink > INK
    if not mask.any():
        return image
    box = bounding_box(mask)
    return to_mnist_format(ink[box], mask[box])
