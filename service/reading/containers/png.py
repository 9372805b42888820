"""PNG: the chunks that carry pixels (PNG specification, third edition, 5 and 11)."""

import struct
import zlib
from collections.abc import Iterator

from service.reading.containers.container import MAX_PARTS, Container, too_many
from service.reading.containers.orientation import exif_orientation, xmp_orientation
from service.reading.errors import InvalidImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">II2B2xB")  # width, height, bits a sample, colour type, interlacing
HEAD_BYTES, CHECKSUM_BYTES = 8, 4  # of a chunk: length and kind before its content
END = b"\0\0\0\0IEND" + zlib.crc32(b"IEND").to_bytes(4, "big")
ONE_CHANNEL = (0, 3)  # colour types: grey and palette; others are decoded to 4 bytes
MODES = {0: "L", 2: "RGB", 6: "RGBA"}  # of colour types with 8 bits a sample
# pixels that are decoded at once, in less than 5 ms, and the bytes that hold them: blocks of
# data may be empty, and whatever is decoded at once has no limit of time
MAX_PLAIN, MAX_PLAIN_BYTES = 2**18, 2**21
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
MAX_XMP = 2**16  # bytes searched for an orientation


def walk(upload: bytes) -> Container:
    """Keep the header, the palette, the transparency and the pixels of a PNG."""
    kept: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    exif, xmp = None, b""
    for kind, start, end in _chunks(upload):
        if kind == b"IDAT":
            pixels.append(upload[start:end])
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and not pixels:
            kept.setdefault(kind, upload[start:end])
        elif kind == b"eXIf":
            exif = exif or exif_orientation(upload[start + HEAD_BYTES : end - CHECKSUM_BYTES])
        elif kind == b"iTXt" and upload.startswith(XMP_KEYWORD, start + HEAD_BYTES):
            # one alone: each may inflate to a thousand times its size
            xmp = xmp or upload[start + HEAD_BYTES + len(XMP_KEYWORD) : end - CHECKSUM_BYTES]
    if b"IHDR" not in kept or not pixels:
        raise InvalidImage("the picture is damaged: the PNG has no header or no pixels")
    width, height, bits, colour, interlacing = HEADER.unpack_from(kept[b"IHDR"], HEAD_BYTES)
    is_plain = bits == 8 and colour in MODES and not interlacing and b"tRNS" not in kept
    is_plain = is_plain and width * height <= MAX_PLAIN and sum(map(len, pixels)) <= MAX_PLAIN_BYTES
    pixel_bytes = max(1, bits // 8) if colour in ONE_CHANNEL else 4
    return Container(
        "PNG",
        b"".join((SIGNATURE, *kept.values(), *pixels, END)),
        (width, height),
        memory=width * height * pixel_bytes,
        orientation=exif or _xmp_orientation(xmp),
        plain=(MODES[colour], b"".join(each[HEAD_BYTES:-CHECKSUM_BYTES] for each in pixels))
        if is_plain
        else None,
    )


def _chunks(upload: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk, and where it starts and ends."""
    at = len(SIGNATURE)
    for _ in range(MAX_PARTS):
        start, kind = at, upload[at + 4 : at + 8]
        if kind in (b"", b"IEND"):
            return
        at += int.from_bytes(upload[at : at + 4], "big") + HEAD_BYTES + CHECKSUM_BYTES
        yield kind, start, at
    raise too_many("PNG chunks", MAX_PARTS)


def _xmp_orientation(text: bytes) -> int | None:
    """Return the orientation of an iTXt chunk behind its keyword; it may be compressed."""
    # compression flag, method, language\0, translated keyword\0
    xmp = text[2:].split(b"\0", 2)[-1]
    if text.startswith(b"\1"):
        try:
            xmp = zlib.decompressobj().decompress(xmp, MAX_XMP)
        except zlib.error:
            return None
    return xmp_orientation(xmp[:MAX_XMP])
