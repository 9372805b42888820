"""Decoding of an upload into an upright, opaque picture."""

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.background import MIN_CONTRAST
from service.reading.containers.container import Container
from service.reading.containers.formats import open_container
from service.reading.containers.jpeg import kept_factor, padded
from service.reading.containers.png import SIGNATURE
from service.reading.errors import InvalidImage, NoDigit
from service.reading.mnist_format import is_mnist_shaped
from service.reading.scale import MIN_WORKING_SIDE, reduced

# Image.open would warn about a large picture; with these classes, decode() refuses it.
DECODERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "WEBP": WebPImageFile,
}
# The start and the end of a PNG of 28 x 28 pixels, 8-bit grey, not interlaced, with nothing
# but pixels; each ends with a checksum (ISO/IEC 15948, 5.3).
IHDR = b"IHDR" + struct.pack(">2I5B", *IMAGE_SIZE, 8, 0, 0, 0, 0)
MNIST_START = SIGNATURE + struct.pack(">I17sI", 13, IHDR, zlib.crc32(IHDR))
MNIST_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
# between them: the chunk's length, its name, the pixels and their checksum
PIXELS_AT, PIXELS_END = len(MNIST_START) + 8, -len(MNIST_END) - 4
MAX_MNIST_PNG = 2**10  # bytes

MAX_PIXELS = 2**30 // 12  # what Pillow takes for safe: a quarter of a GiB as RGB
MAX_SIDE = 2**16 - 1  # pixels, as in a JPEG: each row of a picture takes time and memory
# bytes that decoding may take, and the copies of the file in memory at that time
MAX_MEMORY, COPIES = 210_000_000, 3
MAX_SECONDS = 0.7  # of CPU: a progressive JPEG of 25 megapixels takes 0.25 s
STRIP_PIXELS = 2**20  # converted at a time while a large picture is averaged
MAX_GREY_16 = 2**16 - 1
# the transposition that makes a picture upright, by its orientation in EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FIRST_QUARTER_TURN = 5  # orientations from this one on swap width and height
# in four bytes of red, green, blue and opacity, least first
OPAQUE, GREEN_RED = np.uint32(0xFF000000), np.uint32(0xFFFF)
VISIBLE = 0.5  # share of the largest opacity; only pixels above it choose the background
ONE_COLOUR = 12  # grey levels: the largest standard deviation of a single ink's colour
PALE = 200  # grey level; paler colours were drawn for a white background


def decode(
    upload: bytes, max_pixels: int = MAX_PIXELS, clock: Callable[[], float] = time.thread_time
) -> Image.Image:
    """Decode the first frame of an upload, upright and opaque: mode L or RGB.

    clock: the seconds of CPU that this thread has used. Raises UnknownFormat for bytes
    that are no picture in a supported format, and InvalidImage for a picture that is
    damaged, larger than max_pixels, or takes more memory or time than any good one.
    """
    deadline = clock() + MAX_SECONDS
    try:
        container = open_container(upload)
        _refuse_size(container, max_pixels)
        if container.plain:  # Pillow would take ten times as long to read the file
            mode, rows = container.plain
            rows = _Metered(rows, clock, deadline).read()
            picture = Image.frombytes(mode, container.size, rows, "zip", mode)
        else:
            picture = _pixels(container.kind, container.content, clock, deadline)
        if not container.has_end:
            other = _pixels(container.kind, padded(container.content), clock, deadline)
            if other.tobytes() != picture.tobytes():
                raise EOFError("it is truncated")
    except InvalidImage:
        raise
    # Pillow's decoders raise a dozen kinds of exceptions for damaged files
    except Exception as error:
        raise InvalidImage(f"the picture is damaged ({error}); send the complete file") from error
    if container.orientation in TURNS:
        picture = picture.transpose(TURNS[container.orientation])
    return _on_background(picture) if picture.mode == "RGBA" else picture


def upright_size(upload: bytes) -> tuple[int, int]:
    """Return the width and the height of an upload in pixels, as `decode` turns it."""
    container = open_container(upload)
    width, height = container.size
    is_turned = (container.orientation or 1) >= FIRST_QUARTER_TURN
    return (height, width) if is_turned else (width, height)


def read_mnist_png(upload: bytes) -> npt.NDArray[np.uint8] | None:
    """Read the PNG of an MNIST-shaped image in a fraction of read_image's time.

    Return the image (28, 28) that read_image would return, or None for other uploads.
    """
    if len(upload) > MAX_MNIST_PNG or not upload.endswith(MNIST_END):
        return None
    pixels = upload[PIXELS_AT:PIXELS_END]
    if not upload.startswith(MNIST_START + struct.pack(">I4s", len(pixels), b"IDAT")):
        return None
    try:
        picture = Image.frombytes("L", IMAGE_SIZE, pixels, "zip", "L")
    except Exception:  # as in decode()
        return None
    levels = np.frombuffer(picture.tobytes(), np.uint8).reshape(IMAGE_SIZE)
    return levels if is_mnist_shaped(levels) else None


class _Metered(io.BytesIO):
    """A file whose read() raises after a deadline, which ends the decoder's work."""

    def __init__(self, content: bytes, clock: Callable[[], float], deadline: float) -> None:
        super().__init__(content)
        self.clock, self.deadline = clock, deadline

    def read(self, size: int | None = -1) -> bytes:
        if self.clock() > self.deadline:
            seconds = f"more than {MAX_SECONDS} s of CPU"
            raise InvalidImage(f"decoding the picture takes {seconds}; save it again or smaller")
        return super().read(size)


def _refuse_size(container: Container, max_pixels: int) -> None:
    """Raise InvalidImage for a picture that is too narrow, or takes too much memory or time."""
    width, height = container.size
    size = f"the picture has {width} x {height} pixels"
    if width * height > max_pixels:
        raise InvalidImage(f"{size}; send at most {max_pixels:,}")
    if max(width, height) > MAX_SIDE:
        raise InvalidImage(f"{size}; send at most {MAX_SIDE:,} on a side")
    factor = kept_factor(container.size)
    if factor > 1 and min(width, height) // factor < MIN_WORKING_SIDE:
        raise InvalidImage(f"{size}: too narrow for a digit")
    memory = container.memory + container.extra_memory() + len(container.content) * COPIES
    if memory > MAX_MEMORY:
        takes = f"{memory // 10**6} MB of memory; at most {MAX_MEMORY // 10**6} MB are used"
        raise InvalidImage(f"{size}, and decoding a {container.kind} of this size takes {takes}")


def _pixels(kind: str, content: bytes, clock: Callable[[], float], deadline: float) -> Image.Image:
    """Decode a file to mode L, RGB or RGBA, and average a large picture down."""
    with DECODERS[kind](_Metered(content, clock, deadline)) as picture:
        # a JPEG can be decoded at a fraction of its size, by a power of 2
        width, height = picture.size
        factor = kept_factor(picture.size)
        picture.draft(None, (width // factor, height // factor))
        picture.load()
        convert = _conversion(picture)
        factor = kept_factor(picture.size)
        return _averaged(picture, convert, factor) if factor > 1 else convert(picture)


def _conversion(picture: ImageFile) -> Callable[[Image.Image], Image.Image]:
    """Choose how a picture, and each of its strips, is converted to L, RGB or RGBA."""
    if picture.mode.startswith("I"):
        # convert("L") would clip 16-bit levels to white. Scale by their own range, unless
        # it is so small that it is noise
        low, high = np.asarray(picture.getextrema(), float).tolist()
        scale = MAX_GREY / max(high - low, MIN_CONTRAST * MAX_GREY_16)
        return lambda strip: strip.point(lambda level: level * scale - low * scale).convert("L")
    if picture.format == "BMP" and picture.mode == "RGBA":
        # writers of BMP often leave the opacity at 0
        is_opaque = picture.getchannel("A").getextrema() == (0, 0)
        return lambda strip: strip.convert("RGB" if is_opaque else "RGBA")
    # palettes, CMYK and YCbCr become RGB
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        mode = "RGBA"
    # Pillow would copy a picture of that mode
    return lambda strip: strip if strip.mode == mode else strip.convert(mode)


def _averaged(
    picture: Image.Image, convert: Callable[[Image.Image], Image.Image], factor: int
) -> Image.Image:
    """Convert a picture and average it down, strip by strip to save memory."""
    width, height = picture.size
    step = max(1, STRIP_PIXELS // (width * factor)) * factor
    strips = [
        convert(picture.crop((0, top, width, min(top + step, height)))).reduce(factor)
        for top in range(0, height, step)
    ]
    size = strips[0].width, sum(strip.height for strip in strips)
    averaged = Image.new(strips[0].mode, size)
    for i, strip in enumerate(strips):
        averaged.paste(strip, (0, i * step // factor))
    return averaged


def _on_background(picture: Image.Image) -> Image.Image:
    """Place RGBA on a background that contrasts with its ink.

    If all visible pixels have one colour, the opacity itself is the ink. Otherwise dark
    and very pale colours are placed on white, all others on black.
    """
    pixels = np.frombuffer(picture.tobytes(), "<u4")  # red is the lowest byte
    if np.bitwise_and.reduce(pixels) >= OPAQUE:
        differences = pixels >> 8  # of each channel from the next one; in place to save memory
        differences ^= pixels
        differences &= GREEN_RED
        return picture.convert("RGB") if differences.any() else picture.getchannel("R")
    alpha = picture.getchannel("A")
    least, most = np.asarray(alpha.getextrema()).tolist()
    if most == 0:
        raise NoDigit("the picture is blank (fully transparent)")
    colours = np.asarray(reduced(picture)).reshape(-1, 4)
    is_visible = colours[:, 3] >= colours[:, 3].max() * VISIBLE
    colours = colours[is_visible, :3].astype(np.float32)
    if least <= MAX_GREY // 2 and (colours.std(axis=0) < ONE_COLOUR).all():
        return alpha
    on_white = colours.mean() <= MAX_GREY / 2 or np.median(colours) > PALE
    background = Image.new("RGBA", picture.size, "white" if on_white else "black")
    return Image.alpha_composite(background, picture).convert("RGB")
