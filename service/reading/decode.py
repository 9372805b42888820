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
from service.reading.errors import InvalidImage, UnknownFormat
from service.reading.scale import reduced

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
# Each format's first bytes, and the decoder that checks the rest. Image.open would warn
# of large pictures after opening them; these are measured and refused without warning.
FORMATS: dict[str, tuple[bytes, type[ImageFile]]] = {
    "PNG": (PNG_SIGNATURE, PngImageFile),
    "JPEG": (JPEG_SIGNATURE, JpegImageFile),
    "GIF": (b"GIF8", GifImageFile),
    "BMP": (b"BM", BmpImageFile),
    "WEBP": (b"RIFF", WebPImageFile),
}
# the first 29 bytes of a PNG of 28 x 28 pixels, 8-bit grey, not interlaced
MNIST_PNG = PNG_SIGNATURE + struct.pack(
    ">I4s2I5B", 13, b"IHDR", *IMAGE_SIZE, 8, 0, 0, 0, 0
)

MAX_PIXELS = 2**30 // 12  # what Pillow takes for safe: a quarter of a GiB as RGB
MAX_SCANS = 100  # of a JPEG; progressive ones have about 10
MAX_SEGMENTS = 10_000  # of a JPEG, or chunks of a PNG
JPEG_SCAN = b"\xff\xda"
JPEG_METADATA = (*range(0xE0, 0xF0), 0xFE)  # segments of applications, and comments
PNG_CHUNK_FRAME = 12  # bytes of a chunk besides its data: length, type, checksum
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
MAX_TEXT = 2**20  # bytes of a PNG's text, decompressed

KEPT_SIDE = 1024  # pixels: a picture of twice this side or more is averaged down to it
MAX_GREY_16 = 2**16 - 1
VISIBLE = 0.5  # of the largest opacity: pixels above it decide on the ground
MAX_INK_DEVIATION = 12  # grey levels: the colour of a single ink varies by less
PALE = 200  # grey level: colours above it are a pale ink's, drawn for a white ground


def decode(upload: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of an upload, upright and opaque: mode L or RGB.

    Raises UnknownFormat for bytes that are no picture in one of FORMATS, and
    InvalidImage for a picture that is damaged or larger than max_pixels.
    """
    _refuse_many_parts(upload)
    try:
        with _open(upload) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise InvalidImage(
                    f"the picture has {width} x {height} pixels; send at most "
                    f"{max_pixels:,} in all"
                )
            # a JPEG can be decoded at a fraction of its size
            picture.draft(None, (KEPT_SIDE, KEPT_SIDE))
            plain = ImageOps.exif_transpose(_to_plain_mode(picture))
            return _on_ground(plain) if plain.mode == "RGBA" else plain
    except InvalidImage:
        raise
    # Pillow's decoders raise a dozen kinds of exceptions for damaged files
    except Exception as error:
        raise InvalidImage(
            f"the picture is damaged and cannot be decoded ({error}); "
            "send the complete file"
        ) from error


def decode_mnist_png(upload: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a PNG of 28 x 28 grey pixels in a fraction of decode's time.

    Return its levels (28, 28), or None where it is anything else or has metadata.
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
    return np.frombuffer(picture.tobytes(), np.uint8).reshape(IMAGE_SIZE)


def levels_of(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Return a picture's levels: (h, w) if all of it is grey, else (h, w, 3)."""
    levels = np.asarray(picture)
    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        return levels[..., 0]
    return levels


def _open(upload: bytes) -> ImageFile:
    """Read the header of a picture."""
    for signature, decoder in FORMATS.values():
        if upload.startswith(signature):
            # raised for what turns out not to be in the decoder's format
            with contextlib.suppress(SyntaxError):
                return decoder(io.BytesIO(upload))
    *names, last = FORMATS
    raise UnknownFormat(
        f"not a picture in a supported format: {len(upload)} bytes that begin with "
        f"{upload[:8]!r}; send {', '.join(names)} or {last}"
    )


def _refuse_many_parts(upload: bytes) -> None:
    """Refuse a file whose parts would take a decoder much longer than its pixels.

    A scan of 42 bytes takes 10 ms in a JPEG of 25 million pixels, and Pillow walks over
    segments, chunks and texts in Python.
    """
    if upload.startswith(JPEG_SIGNATURE[:2]):
        head = upload[: upload.find(JPEG_SCAN)]
        n_segments = sum(head.count(bytes([0xFF, kind])) for kind in JPEG_METADATA)
        has_many = upload.count(JPEG_SCAN) > MAX_SCANS or n_segments > MAX_SEGMENTS
    else:
        has_many = upload.startswith(PNG_SIGNATURE) and _has_many_chunks(upload)
    if has_many:
        raise InvalidImage(
            "the file has far more scans, segments, chunks or text than pictures have; "
            "save the picture again without metadata"
        )


def _has_many_chunks(png: bytes) -> bool:
    """Return whether a PNG has more than MAX_SEGMENTS chunks or MAX_TEXT of text."""
    at, n_chunks, n_text = len(PNG_SIGNATURE), 0, 0
    while at < len(png) and n_chunks <= MAX_SEGMENTS and n_text <= MAX_TEXT:
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        if kind in TEXT_CHUNKS:
            n_text += _text_bytes(kind, png[at + 8 : at + 8 + length])
        at += length + PNG_CHUNK_FRAME
        n_chunks += 1
    return n_chunks > MAX_SEGMENTS or n_text > MAX_TEXT


def _text_bytes(kind: bytes, data: bytes) -> int:
    """Count the bytes of a PNG chunk's text, decompressed, up to MAX_TEXT + 1."""
    text = data.partition(b"\0")[2]  # what follows the keyword
    if kind == b"zTXt":
        packed = text[1:]  # a byte names the method
    elif kind == b"iTXt" and text[:1] > b"\0":
        packed = text[2:].split(b"\0", 2)[-1]  # flag, method, language, translation
    else:
        return len(text)
    with contextlib.suppress(zlib.error):
        return len(zlib.decompressobj().decompress(packed, MAX_TEXT + 1))
    return 0


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
        raise InvalidImage(
            "no digit found: the picture is blank (fully transparent); "
            "save it with a background"
        )
    pixels = np.asarray(reduced(picture)).reshape(-1, 4)
    opacity = pixels[:, 3]
    colours = pixels[opacity >= opacity.max() * VISIBLE, :3].astype(np.float32)
    is_one_colour = (colours.std(axis=0) < MAX_INK_DEVIATION).all()
    if least <= MAX_GREY // 2 and is_one_colour:
        return alpha
    on_white = colours.mean() <= MAX_GREY / 2 or np.median(colours) > PALE
    ground = Image.new("RGBA", picture.size, "white" if on_white else "black")
    return Image.alpha_composite(ground, picture).convert("RGB")
