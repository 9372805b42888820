"""The reading of pictures: the bytes of an upload become one image like MNIST's."""

import contextlib
import io
import struct
import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.background import MIN_CONTRAST, ink_plane
from service.reading.errors import InvalidImage, UnknownFormat
from service.reading.mnist_format import framed, is_mnist_shaped
from service.reading.morphology import (
    Grey,
    Mask,
    blurred,
    box_of,
    count_lone,
    despeckled,
    grown,
    stroke_width,
)
from service.reading.segmentation import digit_part, without_rules

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
KEPT_SIDE = 1024  # pixels: a picture twice as long or more is reduced, not below this
FULL_16_BITS = 65535
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# the first 29 bytes of a PNG of 28 x 28 pixels, 8-bit grey, not interlaced
MNIST_PNG = PNG_SIGNATURE + struct.pack(
    ">I4s2I5B", 13, b"IHDR", *IMAGE_SIZE, 8, 0, 0, 0, 0
)
MAX_SCANS, MAX_SEGMENTS = 100, 10_000  # of a file; progressive JPEGs have 10 scans
JPEG_SEGMENTS = (*range(0xE0, 0xF0), 0xFE)  # applications' data and comments
WORKING_SIDE = 256  # pixels of the longer side of what is looked at
MIN_SIDES = (2, 5)  # pixels of the shorter side and of the longer
# pixels: ink that looks smaller in a reduced picture is looked at closer
CLOSE_BELOW = 72
ONE_COLOUR = 12  # of 255: the standard deviation of a single ink's colour

MIN_SIGNAL = 3.0  # standard deviations of the noise, which ink must rise above
NOISE_THRESHOLD = 3.5  # the same, for the threshold between ink and paper
MAX_INK = 0.75  # of the picture
SALT_SIDE, SALT = 64, 5  # pixels: in a picture so small, more lone ones are noise
FLOOR, NOISY_FLOOR = 0.1, 0.25  # of the threshold: fainter than this becomes black
FAINT = 0.05  # ink fainter than this does not widen the digit's box
MIN_PIXELS = 4  # of strokes
MIN_REST = 16  # pixels: in less, nothing can be told of the picture beside the digit
MAX_SPREAD = 0.2  # of the ink's level: what the rest of the picture varies by
MAX_PLUMP = 0.42  # stroke width beside the digit's size
MAX_ASPECT = 4  # width over height

# bytes of compressed text in a PNG, which nothing here reads
PngImagePlugin.MAX_TEXT_MEMORY = 2**20
# a picture that Pillow warns of is refused, not decoded
warnings.simplefilter("error", Image.DecompressionBombWarning)


def read_mnist_png(upload: bytes) -> npt.NDArray[np.uint8] | None:
    """Read the PNG of an image that is MNIST-shaped, in a fraction of the time.

    None if it is anything else, or if anything about it needs a second look; else just
    what read_image would give.
    """
    if not upload.startswith(MNIST_PNG):
        return None
    try:
        picture = PngImageFile(io.BytesIO(upload))
        picture.load()
    # as in decode()
    except Exception:
        return None
    if picture.info:  # such as a transparent level, or an orientation
        return None
    levels = np.frombuffer(picture.tobytes(), np.uint8).reshape(IMAGE_SIZE)
    return levels if is_mnist_shaped(levels) else None


def read_image(upload: bytes, max_pixels: int | None = None) -> npt.NDArray[np.uint8]:
    """Read one upload as an image (28, 28), light ink on black, as MNIST has them.

    What is MNIST-shaped already comes back unchanged. Raises UnknownFormat for bytes
    that are no picture we take, InvalidImage for a picture without a digit in it:
    truncated, of more than max_pixels, blank, nothing but noise, lines or shadows.
    """
    picture = decode(upload, max_pixels)
    levels = np.asarray(picture)
    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        levels = levels[..., 0]
    if is_mnist_shaped(levels):
        return levels
    return framed(*find_digit(picture))


def decode(upload: bytes, max_pixels: int | None = None) -> Image.Image:
    """Decode the first frame, upright, without transparency: mode L or RGB."""
    if _is_tangled(upload):
        raise InvalidImage(
            "the picture has far more scans, segments or chunks than pictures have; "
            "save it anew"
        )
    try:
        with Image.open(io.BytesIO(upload), formats=FORMATS) as picture:
            width, height = picture.size
            if max_pixels is not None and width * height > max_pixels:
                raise InvalidImage(
                    f"the picture is {width} x {height} pixels; send at most "
                    f"{max_pixels:,} in all"
                )
            # a JPEG can be decoded at a fraction of its size
            picture.draft(None, (KEPT_SIDE, KEPT_SIDE))
            plain = _plain(picture)
            return _opaque(ImageOps.exif_transpose(plain))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InvalidImage(
            "the picture has too many pixels to be decoded; send a smaller one"
        ) from None
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


def _is_tangled(upload: bytes) -> bool:
    """Tell whether a file's parts would take a decoder much longer than its pixels.

    A scan of 42 bytes costs a JPEG of 25 million pixels 10 ms, and a million fit in;
    Pillow walks over segments and chunks in Python.
    """
    if upload.startswith(b"\xff\xd8"):
        head = upload[: upload.find(b"\xff\xda")]
        n_segments = sum(head.count(bytes([0xFF, kind])) for kind in JPEG_SEGMENTS)
        return upload.count(b"\xff\xda") > MAX_SCANS or n_segments > MAX_SEGMENTS
    if not upload.startswith(PNG_SIGNATURE):
        return False
    at, n_chunks = len(PNG_SIGNATURE), 0
    while at < len(upload) and n_chunks <= MAX_SEGMENTS:
        at += int.from_bytes(upload[at : at + 4], "big") + 12  # its length, type, sum
        n_chunks += 1
    return n_chunks > MAX_SEGMENTS


def _plain(picture: Image.Image) -> Image.Image:
    """Decode a picture to mode L, RGB or RGBA, no larger than it need be."""
    if picture.mode.startswith("I"):
        # convert("L") would clip 16-bit levels to white: scale by their own range, but
        # not by one so small that it is noise
        low, high = np.asarray(picture.getextrema(), float).tolist()
        scale = MAX_GREY / max(high - low, MIN_CONTRAST * FULL_16_BITS)
        plain = picture.point(lambda level: level * scale - low * scale).convert("L")
    elif picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        plain = picture.convert("RGBA")
    else:
        # palettes, CMYK and YCbCr become RGB
        plain = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    factor = max(picture.size) // KEPT_SIDE
    return plain.reduce(factor) if factor > 1 else plain


def _opaque(picture: Image.Image) -> Image.Image:
    return _on_ground(picture) if picture.mode == "RGBA" else picture


def _on_ground(picture: Image.Image) -> Image.Image:
    """Lay RGBA on a ground that its ink stands out from.

    Where all that is visible has one colour, the opacity itself is the ink; else dark
    colours and the palest go on white, others on black.
    """
    alpha = picture.getchannel("A")
    least, most = np.asarray(alpha.getextrema()).tolist()
    if least == MAX_GREY:
        return picture.convert("RGB")
    if most == 0:
        raise InvalidImage("the picture is blank: it is wholly transparent")
    pixels = np.asarray(_reduced(picture)).reshape(-1, 4)
    colours = pixels[pixels[:, 3] >= pixels[:, 3].max() / 2, :3].astype(np.float32)
    if least <= MAX_GREY // 2 and (colours.std(axis=0) < ONE_COLOUR).all():
        return alpha
    on_white = colours.mean() <= MAX_GREY / 2 or np.median(colours) > 200
    ground = Image.new("RGBA", picture.size, "white" if on_white else "black")
    return Image.alpha_composite(ground, picture).convert("RGB")


def _reduction(size: tuple[int, int]) -> int:
    """Choose the factor by which a picture is averaged down before it is looked at."""
    return max(1, min(-(-max(size) // WORKING_SIDE), min(size) // 8))


def _reduced(picture: Image.Image) -> Image.Image:
    factor = _reduction(picture.size)
    return picture.reduce(factor) if factor > 1 else picture


class Found(NamedTuple):
    """A digit found in a picture of working size, all (h, w) but for the level."""

    ink: Grey  # in [0, 1]
    mask: Mask  # of its strokes
    lines: Mask  # that were taken off
    plane: Grey  # the whole picture's ink
    level: float  # of strong ink in it


def find_digit(picture: Image.Image) -> tuple[Grey, Mask]:
    """Find the digit: its ink (h, w) in [0, 1] and the mask of its strokes, cropped.

    A digit that is small in a large picture is found from afar, then looked at closer.
    """
    size = picture.size
    if min(size) < MIN_SIDES[0] or max(size) < MIN_SIDES[1]:
        raise InvalidImage(f"the picture is blank: it has {size[0]} x {size[1]} pixels")
    factor = _reduction(size)
    found = _locate(_reduced(picture))
    top, bottom, left, right = box_of(found.ink > FAINT)
    length = max(bottom - top, right - left)
    if factor > 1 and length < CLOSE_BELOW:
        margin = length / 2 + 3
        closer = picture.crop(
            (
                int(max(left - margin, 0) * factor),
                int(max(top - margin, 0) * factor),
                int(min((right + margin) * factor, size[0])),
                int(min((bottom + margin) * factor, size[1])),
            )
        )
        if _reduction(closer.size) < factor:
            # where nothing is found in there, what was seen from afar is the digit
            with contextlib.suppress(InvalidImage):
                return find_digit(closer)
    _check(found)
    return found.ink[top:bottom, left:right], found.mask[top:bottom, left:right]


def _locate(picture: Image.Image) -> Found:
    """Find the digit in a picture of working size."""
    plane, share = ink_plane(np.asarray(picture, np.float32) / np.float32(MAX_GREY))
    noise = noise_of(plane)
    seen = blurred(plane) if noise > 0 else plane
    level = _ink_level(seen, noise)
    threshold = min(max(share * level, NOISE_THRESHOLD * noise), 0.5 * level)
    mask = seen > threshold
    if mask.mean() > MAX_INK:
        raise InvalidImage("the picture is nearly all ink")
    if max(mask.shape) <= SALT_SIDE and count_lone(mask) > SALT:
        plane = despeckled(plane)
        mask = plane > threshold
    without = without_rules(mask)
    digit = digit_part(without, plane)
    white = float(np.percentile(plane[digit], 85))
    black = (NOISY_FLOOR if noise else FLOOR) * threshold
    ink = np.clip((plane - np.float32(black)) / np.float32(white - black), 0, 1)
    return Found(ink * grown(digit), digit, mask & ~without, plane, level)


def noise_of(plane: Grey) -> float:
    """Estimate the standard deviation of a plane's noise from its second differences.

    Immerkær, "Fast noise variance estimation", 1996; by the median, so that strokes
    do not count.
    """
    p = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    p = p[:, :-2] - 2 * p[:, 1:-1] + p[:, 2:]
    # a normal variable's median is 0.6745 of its deviation; the mask's norm is 6
    return float(np.median(np.abs(p))) / (6 * 0.6745) if p.size else 0.0


def _ink_level(seen: Grey, noise: float) -> float:
    """Tell how strong ink is: the middle of what is over half of the strongest."""
    rank = max(3, seen.size // 20_000)
    strongest = float(np.partition(seen.ravel(), -rank)[-rank])
    if strongest < max(MIN_CONTRAST, MIN_SIGNAL * noise):
        raise InvalidImage(
            "the picture is blank: no ink stands out from its paper and its noise"
        )
    return float(np.median(seen[seen > 0.5 * strongest]))


def _check(found: Found) -> None:
    """Refuse what stands out no more than the rest, or has no digit's shape."""
    if np.count_nonzero(found.mask) < MIN_PIXELS:
        raise InvalidImage("the picture holds only a speck, no stroke")
    rest = blurred(found.plane)[~grown(grown(found.mask | found.lines))]
    if rest.size > MIN_REST:
        spread = float(np.percentile(np.abs(rest - np.median(rest)), 68))
        if spread > MAX_SPREAD * found.level:
            raise InvalidImage(
                "the picture holds only noise or texture, no stroke that stands out"
            )
    top, bottom, left, right = box_of(found.mask)
    if stroke_width(found.mask) > MAX_PLUMP * max(bottom - top, right - left):
        raise InvalidImage("the picture holds a blob or a shadow, no stroke")
    if right - left > MAX_ASPECT * (bottom - top):
        raise InvalidImage("the picture holds a level line, no digit")
