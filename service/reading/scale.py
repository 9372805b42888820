"""Working size of a picture, views of its parts, and closer crops of small digits."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.features import MAX_GREY
from service.reading.morphology import Box, Grey

WORKING_SIDE = 256  # pixels: a picture is averaged down to about this longer side
MIN_WORKING_SIDE = 8  # pixels: the shorter side is not averaged down below this
CLOSE_BELOW = 72  # pixels of working size: a smaller digit is cropped and read again
CROP_MARGIN = 3  # pixels of working size around a crop, besides half the digit's length

ROW_HEIGHT = 72  # pixels: the crop of a row is averaged down to about this height
ROW_MARGIN = 0.4  # of the height of a row, around its crop

Levels = npt.NDArray[np.uint8]
Corners = npt.NDArray[np.float64]  # (4, 2) of x, y: top left, bottom left, bottom right, top right


def normalised(levels: Levels) -> Grey:
    """Return grey levels in [0, 1]."""
    return np.divide(levels, np.float32(MAX_GREY), dtype=np.float32)


def corners_of(box: tuple[int, int, int, int]) -> Corners:
    """Return the corners of a box: left, top, right and bottom."""
    left, top, right, bottom = box
    return np.array([(left, top), (left, bottom), (right, bottom), (right, top)], float)


WHOLE = corners_of((0, 0, 1, 1))


class View(NamedTuple):
    """A part of a picture, also at working size, and its corners in the whole picture.

    The corners are in parts of the whole picture's sides.
    """

    picture: Image.Image
    working: Image.Image
    levels: Levels  # of the working size: (h, w) if all of it is grey, else (3, h, w)
    factor: int  # by which the working size is smaller
    corners: Corners

    def within(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map points (n, 2) in parts of this view's sides to parts of the whole picture's."""
        u, v = points.T[..., np.newaxis]
        top_left, bottom_left, bottom_right, top_right = self.corners
        left, right = (
            top + v * (bottom - top)
            for top, bottom in ((top_left, bottom_left), (top_right, bottom_right))
        )
        return left + u * (right - left)

    def at_working_size(self, box: Box) -> Corners:
        """Map a box in pixels of working size to corners in parts of the whole picture."""
        rows, columns = box
        corners = corners_of((columns.start, rows.start, columns.stop, rows.stop))
        return self.within(np.clip(corners * self.factor / self.picture.size, 0, 1))


def view_of(picture: Image.Image, corners: Corners = WHOLE) -> View:
    """Return a view of a picture that shows what is within corners of the whole one."""
    working = reduced(picture)
    levels = levels_of(working)
    if working.mode != "L" and levels.ndim == 2:
        working = Image.fromarray(levels)
    return View(picture, working, levels, reduction(picture.size), corners)


def levels_of(picture: Image.Image) -> Levels:
    """Return a picture's levels: (h, w) if all of it is grey, else (3, h, w)."""
    if picture.mode == "L":
        # as np.asarray does, which takes longer
        return np.frombuffer(picture.tobytes(), np.uint8).reshape(picture.size[::-1])
    # work on one plane after the other is much faster than on one pixel after the other
    planes = np.stack([np.asarray(band) for band in picture.split()])
    is_grey = (planes[0] == planes[1]).all() and (planes[0] == planes[2]).all()
    return planes[0] if is_grey else planes


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


def closer_row(view: View, box: Box) -> View | None:
    """Crop a view to a row of digits whose box is at working size.

    Return None where a crop would show no more detail.
    """
    rows, columns = box
    height = rows.stop - rows.start
    margin = ROW_MARGIN * height + CROP_MARGIN
    corners = np.array([[columns.start, rows.start], [columns.stop, rows.stop]])
    corners = (corners + np.array([[-margin], [margin]])) * view.factor
    corners = np.clip(corners, 0, view.picture.size).astype(int)
    width, length = (corners[1] - corners[0]).tolist()
    fits = math.ceil(math.sqrt(width * length) / WORKING_SIDE)
    factor = max(1, fits, height * view.factor // ROW_HEIGHT)
    if factor >= view.factor:
        return None
    crop = view.picture.crop(corners.ravel().tolist())
    within = corners_of(corners.ravel().tolist()) / view.picture.size
    working = crop.reduce(factor)
    return View(crop, working, levels_of(working), factor, view.within(within))
