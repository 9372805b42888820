"""Formats of picture files, by the bytes that they begin with."""

import codecs
import re
import struct

from service.reading.containers import bmp, gif, jpeg, png, webp
from service.reading.containers.container import Container
from service.reading.errors import InvalidImage, UnknownFormat

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
# the walk over each format's parts, by a pattern of the first bytes
WALKS = {
    re.escape(png.SIGNATURE): png.walk,
    rb"\xff\xd8\xff": jpeg.walk,
    rb"GIF8[79]a": gif.walk,
    rb"RIFF....WEBP": webp.walk,
    rb"BM": bmp.walk,
}
# Other formats, by a pattern of the first bytes: first those that no text and no array of
# grey levels begins like, then all others.
OTHER_PICTURES = {
    rb"....ftyp(avif|avis)": "an AVIF picture",
    rb"....ftyp(hei|hev|mif1|msf1)": "a HEIC picture",
    rb"....ftyp": "a video",
    rb"II\*\0|MM\0\*|II\+\0|MM\0\+": "a TIFF picture (or a camera's raw file)",
    rb"%PDF-": "a PDF document",
    # a comment must not match in two ways, or many of them take exponential time
    rb"\s*(<\?xml[^>]*>\s*|<!--((?!-->).)*-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg": "an SVG drawing",
    rb"\s*<\?xml": "an XML document",
}
OTHER_FORMATS = OTHER_PICTURES | {
    rb"\xff\x0a|\0\0\0\x0cJXL ": "a JPEG XL picture",
    rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    rb"\x00\x00[\x01\x02]\x00": "an icon (ICO)",
    rb"8BPS": "a Photoshop file",
    rb"P[1-7]\s": "a PNM picture",
    rb"\x76\x2f\x31\x01": "an EXR picture",
    rb"qoif": "a QOI picture",
    rb"%!PS": "a PostScript document",
    rb"\x93NUMPY": "a NumPy array",
    rb"RIFF....(WAVE|AVI )": "a sound or a video",
    rb"\x1a\x45\xdf\xa3": "a video",
    rb"(?i)\s*<(!doctype html|html|head|body)": "an HTML page",
}
# "BM" alone may begin a text; a BMP's size and four zeros follow it
PICTURE = re.compile(b"|".join([*list(WALKS)[:-1], rb"BM.{4}\0{4}", *OTHER_PICTURES]), re.DOTALL)
HEAD_BYTES = 512  # searched for a format's pattern
TEXT = re.compile(rb"[\t\n\r -~]+")
SHOWN_BYTES = 8  # of a file of no known format


def open_container(upload: bytes) -> Container:
    """Find the parts of an upload that carry the pixels of its first frame.

    Raises UnknownFormat for bytes that begin like no picture in one of FORMATS, and
    InvalidImage for a file that is damaged or has too many parts.
    """
    walks = (walk for pattern, walk in WALKS.items() if re.match(pattern, upload, re.DOTALL))
    walk = next(walks, None)
    if walk is None:
        raise UnknownFormat(
            f"{_described(upload)}, not a picture in a supported format; "
            f"send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        )
    try:
        return walk(upload)
    except InvalidImage:
        raise
    # what reading beyond the end raises, and the arithmetic on an empty header
    except (struct.error, IndexError, ValueError) as error:
        detail = "the picture is damaged (a header is cut off); send the complete file"
        raise InvalidImage(detail) from error


def begins_like_picture(content: bytes) -> bool:
    """Return whether content has the signature of a picture, also of an unsupported one."""
    return bool(PICTURE.match(content, 0, HEAD_BYTES))


def _described(upload: bytes) -> str:
    """Describe a file of another format by its name or its first bytes."""
    head = upload[:HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
    for pattern, name in OTHER_FORMATS.items():
        if re.match(pattern, head, re.DOTALL):
            return f"the file is {name}"
    begins = f"the file has {len(upload)} bytes that begin with {upload[:SHOWN_BYTES]!r}"
    return f"{begins} (text)" if TEXT.fullmatch(head) else begins
