"""Reading of pictures: the bytes of an upload become one image like MNIST's."""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.reading.background import separate_ink
from service.reading.binarise import Strokes, binarise
from service.reading.containers.formats import begins_like_picture, open_container
from service.reading.decode import MAX_PIXELS, decode, read_mnist_png
from service.reading.errors import InvalidImage, NoDigit, SeveralDigits, UnknownFormat, UnlikeDigits
from service.reading.mnist_format import are_mnist_shaped, is_mnist_shaped, to_mnist_format
from service.reading.morphology import Box, Grey, Mask, bounding_box
from service.reading.plates import has_strokes, n_sure, nested_plates
from service.reading.row import TALL, Row, select_row
from service.reading.scale import (
    Levels,
    View,
    closer_crop,
    closer_row,
    levels_of,
    normalised,
    reduced,
    view_of,
)
from service.reading.segmentation import (
    FAINT,
    Digit,
    Doubt,
    Marks,
    find_marks,
    refuse_other_shapes,
    select_digit,
)
from service.reading.stages import Show, ignore

__all__ = [
    "InvalidImage",
    "SeveralDigits",
    "UnknownFormat",
    "UnlikeDigits",
    "are_mnist_shaped",
    "begins_like_picture",
    "n_pixels",
    "read_image",
    "read_levels",
    "read_mnist_png",
]

MIN_SIDES = (2, 5)  # pixels of the shorter side and of the longer


def read_image(
    upload: bytes, max_pixels: int = MAX_PIXELS, show: Show = ignore
) -> npt.NDArray[np.uint8]:
    """Read one upload as an image (28, 28), light ink on black, like MNIST's.

    A picture that is MNIST-shaped already is returned unchanged. `show` receives every
    intermediate image. Raises UnknownFormat for bytes that are no picture in a
    supported format, and InvalidImage for a picture without a digit: damaged, of more
    than max_pixels, blank, or with nothing but noise, lines or shadows.
    """
    picture = decode(upload, max_pixels)
    show("decoded", picture)
    image, _ = to_image(picture, show)
    show("28x28", image)
    return image


def read_levels(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the image that read_image reads from a picture of grey levels (h, w)."""
    return to_image(Image.fromarray(levels))[0]


def to_image(
    picture: Image.Image, show: Show = ignore
) -> tuple[npt.NDArray[np.uint8], "Found | None"]:
    """Return a picture as an image (28, 28), and what was found; None if it is one already."""
    whole = view_of(picture)
    if is_mnist_shaped(whole.levels):
        return whole.levels, None
    found = find_digit(whole, show)
    return to_mnist_format(found.ink, found.mask), found


def n_pixels(upload: bytes) -> int:
    """Return the number of pixels that an upload claims to have; 0 if it is invalid."""
    with contextlib.suppress(InvalidImage):
        return math.prod(open_container(upload).size)
    return 0


class Found(NamedTuple):
    """A digit that was found in a picture, cropped to its box."""

    ink: Grey  # (h, w) in [0, 1]
    mask: Mask  # (h, w), of its strokes
    doubt: Doubt  # whether the picture may hold several digits
    marks: Marks | None  # all that was found beside it; None for a crop that may leave out some
    alone: "Found | None"  # the same without words and a line below it, if there are any
    in_plate: "Found | None" = None  # the digit of what may be a small plate


def find_digit(view: View, show: Show = ignore) -> Found:
    """Find the digit in a view of a picture.

    It is that of the innermost plate that is surely one, or of the whole picture if these
    have none. A small plate is read too.
    """
    views = _views(view)
    n = n_sure(views)
    in_plate = _find_in(views[n:], show)
    try:
        found = _find_in(views[1:n], show) or _find_at(view.picture, view.levels, show)
    except InvalidImage:
        if in_plate is None:
            raise
        return in_plate
    return found._replace(in_plate=in_plate)


def _find_in(plates: list[View], show: Show) -> Found | None:
    """Find the digit in the innermost of nested plates that has one."""
    for view in reversed(plates):
        show("plate", view.picture)
        with contextlib.suppress(InvalidImage):
            found = _find_at(view.picture, view.levels, show)
            if has_strokes(found.mask):
                return found
    return None


def _views(view: View) -> list[View]:
    """List a picture and the plates in it; raise NoDigit if it is too small."""
    size = view.picture.size
    if min(size) < MIN_SIDES[0] or max(size) < MIN_SIDES[1]:
        raise NoDigit(f"the picture has only {size[0]} x {size[1]} pixels")
    return list(nested_plates(view))


def _find_at(picture: Image.Image, levels: Levels, show: Show) -> Found:
    """Find the digit in a picture, without a search for plates.

    levels: of the picture at working size. A small digit in a large picture is found at
    this size, then read from a crop.
    """
    digit = _segment(levels, show)
    box = bounding_box(digit.ink > FAINT)
    crop = closer_crop(picture, box)
    if crop is not None:
        show("crop", crop)
        # if no digit is found in the crop, the one found before is kept
        with contextlib.suppress(InvalidImage):
            found = _find_at(crop, levels_of(reduced(crop)), show)
            if digit.doubt != Doubt.OTHERS:
                return found
            # the crop may leave out other digits
            alone = found.alone and found.alone._replace(doubt=digit.doubt, marks=None)
            return found._replace(doubt=digit.doubt, marks=None, alone=alone)
    refuse_other_shapes(digit)
    return _cropped(digit, box)


def _cropped(digit: Digit, box: Box) -> Found:
    """Return a digit, cropped to its box."""
    rest = digit.alone
    alone = _cropped(rest, bounding_box(rest.ink > FAINT)) if rest else None
    return Found(digit.ink[box], digit.mask[box], digit.doubt, digit.marks, alone)


def _segment(levels: Levels, show: Show) -> Digit:
    """Segment a picture of working size: background, ink, mask, digit."""
    strokes = _strokes(levels, show)
    digit = select_digit(strokes)
    if digit.alone is not None:
        # with a line, the shape may be none that a digit has
        try:
            refuse_other_shapes(digit)
        except InvalidImage:
            digit = digit.alone
    show("digit", digit.ink)
    return digit


def _strokes(levels: Levels, show: Show) -> Strokes:
    """Find the ink in a picture of working size, and which pixels it covers."""
    ink = separate_ink(normalised(levels), show)
    show("ink", ink.plane)
    strokes = binarise(ink)
    show("mask", strokes.mask)
    return strokes


def find_rows(view: View, least: float = TALL) -> Iterator[tuple[Row, View]]:
    """Yield the row of digits in a view of a picture: in its innermost plate first.

    least: the least height of a digit, as a share of the main component's. Small plates may
    be cells, and are left out. Each row comes with the view at whose working size its arrays
    are. Raises InvalidImage where there is no ink.
    """
    views = _views(view)
    has_row = False
    for view in reversed(views[1 : n_sure(views)]):
        with contextlib.suppress(InvalidImage):
            row, closer = _row_at(view, least)
            if has_strokes(row.label > 0):
                has_row = True
                yield row, closer
    try:
        yield _row_at(views[0], least)
    except InvalidImage:
        if not has_row:
            raise


def _row_at(view: View, least: float) -> tuple[Row, View]:
    """Find the row of digits in a view; of a large picture, it is read from a crop."""
    row = select_row(find_marks(_strokes(view.levels, ignore)), least)
    crop = closer_row(view, row.box())
    if crop is not None:
        # if no row is found in the crop, the one found before is kept
        with contextlib.suppress(InvalidImage):
            return select_row(find_marks(_strokes(crop.levels, ignore)), least), crop
    return row, view
