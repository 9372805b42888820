"""Working size of a picture, and the closer crop of a digit that is small in it."""

import numpy as np
from PIL import Image

from service.reading.morphology import Box

WORKING_SIDE = 256  # pixels: a picture is averaged down to about this longer side
MIN_WORKING_SIDE = 8  # pixels: the shorter side is not averaged down below this
CLOSE_BELOW = 72  # pixels of working size: a smaller digit is cropped and read again
CROP_MARGIN = 3  # pixels of working size around a crop, besides half the digit's length


def reduction(size: tuple[int, int]) -> int:
    """Choose the factor that averages a picture of this size down to working size."""
    return max(1, min(-(-max(size) // WORKING_SIDE), min(size) // MIN_WORKING_SIDE))


def reduced(picture: Image.Image) -> Image.Image:
    """Average a picture down to working size."""
    factor = reduction(picture.size)
    return picture.reduce(factor) if factor > 1 else picture


def closer_crop(picture: Image.Image, box: Box) -> Image.Image | None:
    """Crop a picture around a digit whose box, at working size, is small.

    Return None where a crop would show no more detail.
    """
    factor = reduction(picture.size)
    rows, columns = box
    length = max(rows.stop - rows.start, columns.stop - columns.start)
    if factor == 1 or length >= CLOSE_BELOW:
        return None
    corners = np.array([[columns.start, rows.start], [columns.stop, rows.stop]])
    margins = np.array([[-1], [1]]) * (length / 2 + CROP_MARGIN)
    corners = np.clip((corners + margins) * factor, 0, picture.size).astype(int)
    crop = picture.crop(corners.ravel().tolist())
    return crop if reduction(crop.size) < factor else None
