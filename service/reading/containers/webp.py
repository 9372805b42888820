"""WEBP: the first frame (RFC 9649)."""

import struct
from collections.abc import Iterator
from functools import partial

from service.reading.containers.container import MAX_PARTS, Container, too_many
from service.reading.containers.orientation import exif_orientation, xmp_orientation
from service.reading.containers.vp8l import HEAD_BYTES, count_groups
from service.reading.errors import InvalidImage

CHUNK = struct.Struct("<4sI")
RIFF_HEAD = 12  # bytes: RIFF, the length, WEBP
KEPT = (b"VP8X", b"ANIM", b"ALPH", b"VP8 ", b"VP8L", b"ANMF")
FRAMES = (b"VP8 ", b"VP8L", b"ANMF")
ALPHA, ANIMATION = 0x10, 0x02  # flags of VP8X
ALPHA_METHOD, LOSSLESS = 3, 1  # of ALPH: the bits of its compression, and VP8L's
# Memory per pixel at the end: two canvases of the decoder, its result, and the picture.
# Before that: the first canvas, the frame, and the tables of each group of prefix codes.
PIXEL_BYTES, FRAME_PIXEL_BYTES, GROUP_BYTES = 16, 8, 20_000
FRAME_HEAD = 16  # bytes of an animation's frame before its chunks
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
        extra_memory=partial(_extra_memory, kept, size),
        orientation=exif or xmp,
    )


def _size(kept: dict[bytes, bytes]) -> tuple[int, int]:
    """Return the width and height of the canvas, or of the only frame."""
    if b"VP8X" in kept:
        width, height = (int.from_bytes(kept[b"VP8X"][at : at + 3], "little") for at in (4, 7))
        return width + 1, height + 1
    return _frame_size(kept)


def _frame_size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    """Return the width and height of a frame, lossless or lossy."""
    if b"VP8L" in chunks:
        (bits,) = struct.unpack_from("<I", chunks[b"VP8L"], 1)
        return (bits & SIDE_14_BITS) + 1, (bits >> 14 & SIDE_14_BITS) + 1
    if b"VP8 " in chunks:
        width, height = struct.unpack_from("<2H", chunks[b"VP8 "], 6)
        return width & SIDE_14_BITS, height & SIDE_14_BITS
    raise InvalidImage("the picture is damaged: the WEBP has no frame")


def _extra_memory(kept: dict[bytes, bytes], size: tuple[int, int]) -> int:
    """Return the bytes by which the tables of prefix codes raise the peak."""
    chunks = dict(_chunks(kept[b"ANMF"], FRAME_HEAD)) if b"ANMF" in kept else kept
    alpha = chunks.get(b"ALPH", b"")
    n_groups = 0
    if b"VP8L" in chunks:
        n_groups = count_groups(chunks[b"VP8L"][HEAD_BYTES:], *_frame_size(chunks))
    elif alpha and alpha[0] & ALPHA_METHOD == LOSSLESS:
        n_groups = count_groups(alpha[1:], *_frame_size(chunks))
    n_later = size[0] * size[1] * (PIXEL_BYTES - FRAME_PIXEL_BYTES)
    return max(0, n_groups * GROUP_BYTES - n_later)


def _chunks(upload: bytes, at: int = RIFF_HEAD) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each chunk; the last may be cut off."""
    for _ in range(MAX_PARTS):
        if at + CHUNK.size > len(upload):
            return
        kind, length = CHUNK.unpack_from(upload, at)
        at += CHUNK.size
        yield kind, upload[at : at + length]
        at += length + length % 2
    raise too_many("WEBP chunks", MAX_PARTS)
