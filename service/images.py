"""The reading of pictures: the bytes of an upload become one image like MNIST's."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from service.features import IMAGE_SIZE, MAX_GREY

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
MAX_PIXELS = 25_000_000  # a 4,000 x 4,000 photo and some more

# How MNIST's images were made: the ink fills a box of 20 pixels, the aspect kept, and
# its centre of mass lies in the middle (LeCun, Cortes, Burges, "The MNIST database").
BOX = 20
# What all 70,000 of them keep to; test_images.py holds these to the data.
MNIST_BOXES = (BOX - 1, BOX)
MNIST_MIN_TOP = 254
MNIST_MAX_BORDER_INK = 6  # pixels of the outermost ring that are not black
MNIST_CENTRE = (13.45, 14.55)  # index of the centre of mass, in both directions

WORKING_SIDE = 512  # pixels: a side of twice this or more is averaged down first
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: ITU-R BT.601
MIN_CONTRAST = 0.08  # of the range: less than this between paper and ink is no ink
INK = 0.25  # of the strongest ink: less is paper, noise and anti-aliasing

Grey = npt.NDArray[np.float32]


class InvalidImage(ValueError):
    """A picture in which no digit can be looked for."""


class UnknownFormat(InvalidImage):
    """Bytes that are not a picture in one of FORMATS."""


def read_image(upload: bytes) -> npt.NDArray[np.uint8]:
    """Read one upload as an image (28, 28), light ink on black, as MNIST has them.

    What is MNIST-shaped already comes back unchanged. Raises UnknownFormat for bytes
    that are no picture we take, InvalidImage for a picture without a digit in it:
    truncated, larger than MAX_PIXELS, or blank.
    """
    grey = decode(upload)
    if is_mnist_shaped(grey):
        return grey.astype(np.uint8)
    return normalise(light_on_dark(grey))


def decode(upload: bytes) -> Grey:
    """Decode the first frame to grey levels (h, w) in 0..255, upright, on a ground."""
    try:
        with Image.open(io.BytesIO(upload), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InvalidImage(
                    f"the picture is {width} x {height} pixels; send at most "
                    f"{MAX_PIXELS:,} in all"
                )
            picture.load()
            return _grey(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        raise UnknownFormat(
            f"the {len(upload)} bytes sent, which begin with {upload[:8]!r}, are not a "
            f"picture; send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from None
    except InvalidImage:
        raise
    # Pillow's decoders answer bad bytes with a dozen kinds of exception, not with one
    except Exception as error:
        raise InvalidImage(
            f"the picture is broken and cannot be decoded ({error}); send it whole"
        ) from error


def _grey(picture: Image.Image) -> Grey:
    if picture.mode.startswith(("I", "F")):
        # convert("L") would clip 16-bit levels to white: scale by their own range
        levels = np.asarray(picture, np.float32)
        lowest, highest = float(levels.min()), float(levels.max())
        return (levels - np.float32(lowest)) * np.float32(
            MAX_GREY / max(highest - lowest, 1.0)
        )
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        return _on_contrasting_ground(_reduced(picture.convert("RGBA")))
    # palettes, CMYK and YCbCr reach their grey by way of RGB
    if picture.mode not in ("1", "L", "RGB"):
        picture = picture.convert("RGB")
    return np.asarray(_reduced(picture.convert("L")), np.float32)


def _reduced(picture: Image.Image) -> Image.Image:
    """Average a large picture down, so that its floats stay few."""
    factor = max(picture.size) // WORKING_SIDE
    return picture.reduce(factor) if factor > 1 else picture


def _on_contrasting_ground(picture: Image.Image) -> Grey:
    """Lay what is not transparent on white if it is dark, on black if it is light."""
    rgba = np.asarray(picture, np.float32)
    luma: Grey = rgba[..., :3] @ LUMA
    alpha = rgba[..., 3] / np.float32(MAX_GREY)
    visible = max(float(alpha.sum()), 1.0)
    is_light = float((luma * alpha).sum()) / visible > MAX_GREY / 2
    ground = np.float32(0 if is_light else MAX_GREY)
    on_ground: Grey = luma * alpha + ground * (1 - alpha)
    return on_ground


def is_mnist_shaped(grey: Grey) -> bool:
    """Tell whether grey levels (h, w) are what MNIST's own recipe would have made."""
    if grey.shape != IMAGE_SIZE or grey.max() < MNIST_MIN_TOP:
        return False
    if np.count_nonzero(_border(grey)) > MNIST_MAX_BORDER_INK:
        return False
    low, high = MNIST_CENTRE
    return max(_box(grey > 0)[2:]) in MNIST_BOXES and all(
        low < centre < high for centre in _centre_of_mass(grey)
    )


def light_on_dark(grey: Grey) -> Grey:
    """Turn grey levels of either polarity into ink (h, w) in [0, 1] on a ground of 0.

    The ground is the median of the border: a person leaves paper around a digit.
    Raises InvalidImage if nothing stands out from it.
    """
    ground = np.median(_border(grey))
    darkest, lightest = float(grey.min()), float(grey.max())
    is_dark_on_light = ground > (darkest + lightest) / 2
    ink = ground - grey if is_dark_on_light else grey - ground
    contrast = float(ink.max())
    if contrast < MIN_CONTRAST * MAX_GREY:
        raise InvalidImage(
            f"the picture is blank: its levels reach from {darkest:.0f} to "
            f"{lightest:.0f} of {MAX_GREY}; send one with a digit in it"
        )
    share: Grey = np.clip(ink / np.float32(contrast), 0, 1)
    return share


def normalise(ink: Grey) -> npt.NDArray[np.uint8]:
    """Scale ink (h, w) in [0, 1] into MNIST's box and centre its mass: (28, 28)."""
    top, left, height, width = _box(ink > INK)
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    digit = Image.fromarray(ink[top : top + height, left : left + width])
    small = np.asarray(
        digit.resize(
            size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        )
    )
    small = np.clip(small / small.max(), 0, 1)
    image = np.zeros(IMAGE_SIZE, np.float32)
    corner = [
        # the middle of 28 pixels is the edge between the 14th and the 15th: index 14
        min(max(round(side / 2 - centre), 0), side - length)
        for side, centre, length in zip(
            IMAGE_SIZE, _centre_of_mass(small), small.shape, strict=True
        )
    ]
    image[
        corner[0] : corner[0] + small.shape[0], corner[1] : corner[1] + small.shape[1]
    ] = small
    return np.rint(image * MAX_GREY).astype(np.uint8)


def _border(grey: Grey) -> Grey:
    """List the outermost ring of pixels of (h, w)."""
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find the top, left, height and width of the box around what is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        int(rows[0]),
        int(columns[0]),
        int(rows[-1] - rows[0] + 1),
        int(columns[-1] - columns[0] + 1),
    )


def _centre_of_mass(ink: npt.NDArray[Any]) -> tuple[float, float]:
    """Find the row and column of the centre of mass, as indices."""
    total = float(ink.sum())
    row = float(ink.sum(1) @ np.arange(ink.shape[0])) / total
    column = float(ink.sum(0) @ np.arange(ink.shape[1])) / total
    return row, column
