"""WEBP: the first frame (RFC 9649)."""

import struct
from collections.abc import Iterator

from service.reading.containers.container import MAX_PARTS, Container, too_many
from service.reading.containers.orientation import UPRIGHT, exif_orientation, xmp_orientation
from service.reading.errors import InvalidImage

CHUNK = struct.Struct("<4sI")
RIFF_HEAD = 12  # bytes: RIFF, the length, WEBP
KEPT = (b"VP8X", b"ANIM", b"ALPH", b"VP8 ", b"VP8L", b"ANMF")
FRAMES = (b"VP8 ", b"VP8L", b"ANMF")
ALPHA, ANIMATION = 0x10, 0x02  # flags of VP8X
PIXEL_BYTES = 16  # two canvases of the decoder, its reply, and the picture
SIDE_14_BITS = 0x3FFF


def walk(upload: bytes) -> Container:
    """Keep the header, the opacity and the first frame of a WEBP."""
    kept: dict[bytes, bytes] = {}
    exif = xmp = None
    for kind, content in _chunks(upload):
        if kind in KEPT and not any(frame in kept for frame in FRAMES):
            kept.setdefault(kind, content)
        elif kind == b"EXIF":
            exif = exif or exif_orientation(content.removeprefix(b"Exif\0\0"))
        elif kind == b"XMP ":
            xmp = xmp or xmp_orientation(content)
    size = _size(kept)
    if b"VP8X" in kept:
        flags = kept[b"VP8X"][0] & (ALPHA | ANIMATION)
        kept[b"VP8X"] = bytes([flags]) + kept[b"VP8X"][1:]
    body = b"".join(
        part
        for kind, content in kept.items()
        for part in (CHUNK.pack(kind, len(content)), content, bytes(len(content) % 2))
    )
    return Container(
        "WEBP",
        CHUNK.pack(b"RIFF", len(body) + 4) + b"WEBP" + body,
        size,
        memory=size[0] * size[1] * PIXEL_BYTES,
        orientation=exif or xmp or UPRIGHT,
    )


def _size(kept: dict[bytes, bytes]) -> tuple[int, int]:
    """Return the width and height of the canvas, or of the only frame."""
    if b"VP8X" in kept:
        sides = (kept[b"VP8X"][at : at + 3] for at in (4, 7))
        width, height = (int.from_bytes(side, "little") + 1 for side in sides)
    elif b"VP8 " in kept:
        width, height = (n & SIDE_14_BITS for n in struct.unpack_from("<2H", kept[b"VP8 "], 6))
    elif b"VP8L" in kept:
        (bits,) = struct.unpack_from("<I", kept[b"VP8L"], 1)
        width, height = (bits & SIDE_14_BITS) + 1, (bits >> 14 & SIDE_14_BITS) + 1
    else:
        raise InvalidImage("the picture is damaged: the WEBP has no frame")
    return width, height


def _chunks(upload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each chunk; the last may be cut off."""
    at = RIFF_HEAD
    for _ in range(MAX_PARTS):
        if at + CHUNK.size > len(upload):
            return
        kind, length = CHUNK.unpack_from(upload, at)
        at += CHUNK.size
        yield kind, upload[at : at + length]
        at += length + length % 2
    raise too_many("WEBP chunks", MAX_PARTS)
