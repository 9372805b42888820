"""Decoding of an upload into an upright, opaque picture."""

import contextlib
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.background import MIN_CONTRAST
from service.reading.errors import InvalidImage, NoDigit, UnknownFormat
from service.reading.mnist_format import is_mnist_shaped
from service.reading.scale import reduced

# Formats, by the decoders that read them. Image.open would warn of a large picture once
# it is open; these leave it to decode() to refuse one by its size.
DECODERS = (PngImageFile, JpegImageFile, GifImageFile, BmpImageFile, WebPImageFile)
FORMATS = tuple(str(decoder.format) for decoder in DECODERS)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# the first 29 bytes of a PNG of 28 x 28 pixels, 8-bit grey, not interlaced
MNIST_PNG = PNG_SIGNATURE + struct.pack(">I4s2I5B", 13, b"IHDR", *IMAGE_SIZE, 8, 0, 0, 0, 0)

MAX_PIXELS = 2**30 // 12  # what Pillow takes for safe: a quarter of a GiB as RGB
JPEG_START, JPEG_SCAN = b"\xff\xd8", b"\xff\xda"
JPEG_METADATA = (*range(0xE0, 0xF0), 0xFE)  # segments of applications, and comments
# scans of a JPEG, where progressive ones have about 10; segments of a JPEG or chunks of
# a PNG; bytes of a PNG's text, decompressed
MAX_SCANS, MAX_SEGMENTS, MAX_TEXT = 100, 10_000, 2**20
PNG_CHUNK_FRAME = 12  # bytes of a chunk besides its data: length, kind, checksum
# the zero bytes before the text in each kind of PNG chunk that holds text
TEXT_ZEROS = {b"tEXt": 1, b"zTXt": 2, b"iTXt": 4}

KEPT_SIDE = 1024  # pixels: a picture of twice this side or more is averaged down to it
MAX_GREY_16 = 2**16 - 1
VISIBLE = 0.5  # of the largest opacity: the ground is chosen by pixels above it
ONE_COLOUR = 12  # grey levels: the largest standard deviation of a single ink's colour
PALE = 200  # grey level: paler colours were drawn for a white ground


def decode(upload: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of an upload, upright and opaque: mode L or RGB.

    Raises UnknownFormat for bytes that are no picture in one of FORMATS, and
    InvalidImage for a picture that is damaged or larger than max_pixels.
    """
    if _has_many_parts(upload):
        raise InvalidImage("too many parts or too much text; save it without metadata")
    try:
        with _open(upload) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                size = f"the picture has {width} x {height} pixels"
                raise InvalidImage(f"{size}; send at most {max_pixels:,}")
            # a JPEG can be decoded at a fraction of its size
            picture.draft(None, (KEPT_SIDE, KEPT_SIDE))
            plain = ImageOps.exif_transpose(_to_plain_mode(picture))
            return _on_ground(plain) if plain.mode == "RGBA" else plain
    except InvalidImage:
        raise
    # Pillow's decoders raise a dozen kinds of exceptions for damaged files
    except Exception as error:
        raise InvalidImage(f"the picture is damaged ({error}); send the complete file") from error


def read_mnist_png(upload: bytes) -> npt.NDArray[np.uint8] | None:
    """Read the PNG of an MNIST-shaped image in a fraction of read_image's time.

    Return the image (28, 28) that read_image would return, or None for other uploads.
    """
    if not upload.startswith(MNIST_PNG):
        return None
    try:
        picture = PngImageFile(io.BytesIO(upload))
        picture.load()
    except Exception:  # as in decode()
        return None
    if picture.info:  # such as a transparent level, or an orientation
        return None
    levels = np.frombuffer(picture.tobytes(), np.uint8).reshape(IMAGE_SIZE)
    return levels if is_mnist_shaped(levels) else None


def levels_of(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Return a picture's levels: (h, w) if all of it is grey, else (h, w, 3)."""
    levels = np.asarray(picture)
    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        return levels[..., 0]
    return levels


def _open(upload: bytes) -> ImageFile:
    """Read the header of a picture; raise UnknownFormat if no decoder accepts it."""
    for decoder in DECODERS:
        with contextlib.suppress(SyntaxError):  # not in this decoder's format
            return decoder(io.BytesIO(upload))
    raise UnknownFormat(
        f"not a picture in a supported format: {len(upload)} bytes that begin with "
        f"{upload[:8]!r}; send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    )


def _has_many_parts(upload: bytes) -> bool:
    """Return whether the parts of a file would take longer to decode than its pixels.

    A scan of 42 bytes takes 10 ms in a JPEG of 25 million pixels, and Pillow walks over
    segments, chunks and texts in Python.
    """
    if upload.startswith(JPEG_START):
        head = upload[: upload.find(JPEG_SCAN)]
        n_segments = sum(head.count(bytes([0xFF, kind])) for kind in JPEG_METADATA)
        return upload.count(JPEG_SCAN) > MAX_SCANS or n_segments > MAX_SEGMENTS
    if not upload.startswith(PNG_SIGNATURE):
        return False
    at, n_chunks, n_text = len(PNG_SIGNATURE), 0, 0
    while at < len(upload) and n_chunks <= MAX_SEGMENTS and n_text <= MAX_TEXT:
        length, kind = (int.from_bytes(upload[at : at + 4], "big"), upload[at + 4 : at + 8])
        if kind in TEXT_ZEROS:
            data = upload[at + 8 : at + 8 + length]
            n_text += _n_decompressed(data.split(b"\0", TEXT_ZEROS[kind])[-1])
        at += length + PNG_CHUNK_FRAME
        n_chunks += 1
    return n_chunks > MAX_SEGMENTS or n_text > MAX_TEXT


def _n_decompressed(text: bytes) -> int:
    """Count the bytes of text that may be compressed, up to MAX_TEXT + 1."""
    try:
        return len(zlib.decompressobj().decompress(text, MAX_TEXT + 1))
    except zlib.error:
        return len(text)


def _to_plain_mode(picture: Image.Image) -> Image.Image:
    """Convert a picture to mode L, RGB or RGBA, and average a large one down."""
    if picture.mode.startswith("I"):
        # convert("L") would clip 16-bit levels to white: scale by their own range, but
        # not by one so small that it is noise
        low, high = np.asarray(picture.getextrema(), float).tolist()
        scale = MAX_GREY / max(high - low, MIN_CONTRAST * MAX_GREY_16)
        plain = picture.point(lambda level: level * scale - low * scale).convert("L")
    elif picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        plain = picture.convert("RGBA")
    else:
        # palettes, CMYK and YCbCr become RGB
        plain = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    factor = max(picture.size) // KEPT_SIDE
    return plain.reduce(factor) if factor > 1 else plain


def _on_ground(picture: Image.Image) -> Image.Image:
    """Lay RGBA on a ground that its ink stands out from.

    Where all visible pixels have one colour, the opacity itself is the ink. Otherwise
    dark and very pale colours are laid on white, all others on black.
    """
    alpha = picture.getchannel("A")
    least, most = np.asarray(alpha.getextrema()).tolist()
    if least == MAX_GREY:
        return picture.convert("RGB")
    if most == 0:
        raise NoDigit("the picture is blank (fully transparent)")
    pixels = np.asarray(reduced(picture)).reshape(-1, 4)
    is_visible = pixels[:, 3] >= pixels[:, 3].max() * VISIBLE
    colours = pixels[is_visible, :3].astype(np.float32)
    if least <= MAX_GREY // 2 and (colours.std(axis=0) < ONE_COLOUR).all():
        return alpha
    on_white = colours.mean() <= MAX_GREY / 2 or np.median(colours) > PALE
    ground = Image.new("RGBA", picture.size, "white" if on_white else "black")
    return Image.alpha_composite(ground, picture).convert("RGB")
