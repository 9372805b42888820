"""Reading of pictures: the bytes of an upload become one image like MNIST's."""

import contextlib
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.background import separate_ink
from service.reading.binarise import binarise
from service.reading.containers.formats import begins_like_picture, open_container
from service.reading.decode import MAX_PIXELS, decode, levels_of, read_mnist_png
from service.reading.errors import InvalidImage, NoDigit, UnknownFormat
from service.reading.mnist_format import are_mnist_shaped, is_mnist_shaped, to_mnist_format
from service.reading.morphology import Grey, Mask, bounding_box
from service.reading.plates import has_strokes, nested_plates
from service.reading.scale import closer_crop, reduced
from service.reading.segmentation import Digit, refuse_other_shapes, select_digit
from service.reading.stages import Show, ignore

__all__ = [
    "InvalidImage",
    "UnknownFormat",
    "are_mnist_shaped",
    "begins_like_picture",
    "n_pixels",
    "read_image",
    "read_levels",
    "read_mnist_png",
]

MIN_SIDES = (2, 5)  # pixels of the shorter side and of the longer
FAINT = 0.05  # ink fainter than this does not widen the digit's box


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
    image = _to_image(picture, show)
    show("28x28", image)
    return image


def read_levels(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the image that read_image reads from a picture of grey levels (h, w)."""
    return _to_image(Image.fromarray(levels), ignore)


def _to_image(picture: Image.Image, show: Show) -> npt.NDArray[np.uint8]:
    if picture.size == IMAGE_SIZE and is_mnist_shaped(levels := levels_of(picture)):
        return levels
    return to_mnist_format(*find_digit(picture, show))


def n_pixels(upload: bytes) -> int:
    """Return the number of pixels that an upload claims to have; 0 if it is invalid."""
    with contextlib.suppress(InvalidImage):
        return math.prod(open_container(upload).size)
    return 0


def find_digit(picture: Image.Image, show: Show = ignore) -> tuple[Grey, Mask]:
    """Find the digit: its ink (h, w) in [0, 1] and the mask of its strokes, cropped.

    It is that of the innermost plate, or of the whole picture if the plates have none.
    """
    size = picture.size
    if min(size) < MIN_SIDES[0] or max(size) < MIN_SIDES[1]:
        raise NoDigit(f"the picture has only {size[0]} x {size[1]} pixels")
    whole, *plates = nested_plates(picture)
    for plate, working in reversed(plates):
        show("plate", plate)
        with contextlib.suppress(InvalidImage):
            ink, mask = _find_at(plate, working, show)
            if has_strokes(mask):
                return ink, mask
    return _find_at(*whole, show)


def _find_at(picture: Image.Image, working: Image.Image, show: Show) -> tuple[Grey, Mask]:
    """Find the digit in a picture, without a search for plates.

    A small digit in a large picture is found at working size, then read from a crop.
    """
    digit = _segment(working, show)
    box = bounding_box(digit.ink > FAINT)
    crop = closer_crop(picture, box)
    if crop is not None:
        show("crop", crop)
        # if no digit is found in the crop, the one found before is kept
        with contextlib.suppress(InvalidImage):
            return _find_at(crop, reduced(crop), show)
    refuse_other_shapes(digit)
    return digit.ink[box], digit.mask[box]


def _segment(picture: Image.Image, show: Show) -> Digit:
    """Segment a picture of working size: background, ink, mask, digit."""
    levels = np.asarray(picture, np.float32) / np.float32(MAX_GREY)
    ink = separate_ink(levels, show)
    show("ink", ink.plane)
    strokes = binarise(ink)
    show("mask", strokes.mask)
    digit = select_digit(strokes)
    show("digit", digit.ink)
    return digit
