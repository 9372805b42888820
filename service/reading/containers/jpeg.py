"""JPEG: the segments that carry pixels (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator

from service.reading.containers.container import MAX_PARTS, Container, too_many
from service.reading.containers.orientation import exif_orientation, xmp_orientation
from service.reading.errors import InvalidImage

START, END = b"\xff\xd8", b"\xff\xd9"
FRAME = struct.Struct(">xHHB")  # height, width, number of components
PROGRESSIVE = (0xC2, 0xCA)  # by Huffman codes, and arithmetic
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Huffman codes, arithmetic conditioning, quantisation, restart interval
TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
SCAN, LAST, JFIF, APP1, ADOBE = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE
WITHOUT_LENGTH = (0x01, 0xD8)  # a temporary marker, and a repeated start
# any marker except restarts and stuffed zeros, which belong to a scan
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
EXIF_NAME, XMP_NAME = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
FILL = b"\xff"
JFIF_BYTES = 12  # without the size of its thumbnail
COMPONENT_BYTES = 3  # in a frame: number, sampling factors, quantisation table
COEFFICIENT_BYTES = 2  # of each sample, where several scans describe a block
# pixels that the longer side keeps at least, and the decoder's scales
KEPT_SIDE, SHRINKS = 1024, (1, 2, 4, 8)
# A progressive file has 10 scans and 10 tables, or 18 of each in CMYK. A scan of a few
# bytes takes 0.7 ns a pixel.
MAX_SCANS, MAX_TABLES, MAX_SCAN_PIXELS = 100, 1_000, 500_000_000
# A file without its end marker is decoded with and without these bytes after its last
# scan. They are all bytes except FF, so that any missing pixels differ.
PADDING = bytes(range(1, 0xFF)) * 4


def walk(upload: bytes) -> Container:
    """Keep the frame, the tables, the scans and the colour transform of a JPEG."""
    kept: list[bytes | memoryview] = [START]
    frame_kind, frame, n_scans, n_tables = 0, b"", 0, 0
    exif = xmp = None
    has_end = False
    for kind, content, coded in _segments(upload):
        if kind == LAST:
            has_end = True
        elif kind == APP1 and content.startswith(EXIF_NAME):
            exif = exif or exif_orientation(content[len(EXIF_NAME) :])
        elif kind == APP1 and content.startswith(XMP_NAME):
            xmp = xmp or xmp_orientation(content)
        elif kind in FRAMES and not frame:
            frame_kind, frame = kind, content
            kept += _segment(kind, content)
        elif kind == SCAN or kind in TABLES:
            n_scans, n_tables = n_scans + (kind == SCAN), n_tables + (kind != SCAN)
            kept += [*_segment(kind, content), coded]
        elif kind == JFIF and content.startswith(b"JFIF\0"):
            kept += _segment(kind, content[:JFIF_BYTES] + b"\0\0")
        elif kind == ADOBE and content.startswith(b"Adobe"):
            kept += _segment(kind, content)
    height, width, *_ = FRAME.unpack_from(frame)
    if n_scans > min(MAX_SCANS, MAX_SCAN_PIXELS // max(1, width * height)):
        size = f"{n_scans:,} JPEG scans of {width} x {height} pixels"
        raise InvalidImage(f"the file has {size}; save the picture again")
    if n_tables > MAX_TABLES:
        raise too_many("JPEG tables", MAX_TABLES)
    return Container(
        "JPEG",
        b"".join((*kept, END)),
        (width, height),
        memory=_memory(frame, n_scans > 1 or frame_kind in PROGRESSIVE),
        orientation=exif or xmp,
        has_end=has_end,
    )


def kept_factor(size: tuple[int, int]) -> int:
    """Return the factor by which a large picture is averaged down when it is decoded."""
    return max(1, max(size) // KEPT_SIDE)


def _memory(frame: bytes, has_buffer: bool) -> int:
    """Return the bytes of the decoded picture, and of its coefficients if buffered."""
    height, width, n_components = FRAME.unpack_from(frame)
    samplings = [frame[i] for i in range(FRAME.size + 1, len(frame), COMPONENT_BYTES)]
    blocks = [(each >> 4) * (each & 15) for each in samplings[:n_components]]
    most = max(each >> 4 for each in samplings) * max(each & 15 for each in samplings)
    shrink = kept_factor((width, height))
    shrink = max(n for n in SHRINKS if n <= shrink)
    memory = width * height // shrink**2 * (1 if n_components == 1 else 4)
    if has_buffer:
        memory += width * height * COEFFICIENT_BYTES * sum(blocks) // max(1, most)
    return memory


def padded(content: bytes) -> bytes:
    """Return a JPEG with other data where a part of its last scan may be missing."""
    return b"".join((content[: -len(END)], PADDING, END))


def _segment(kind: int, content: bytes) -> tuple[bytes, bytes]:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2), content


def _segments(upload: bytes) -> Iterator[tuple[int, bytes, bytes | memoryview]]:
    """Yield each segment's marker, its content, and the coded data of a scan."""
    at = len(START)
    for _ in range(MAX_PARTS):
        found = MARKER.search(upload, at)
        if not found:
            return
        kind, at = found[0][1], found.end()
        if kind in WITHOUT_LENGTH:
            continue
        if kind == LAST:
            yield kind, b"", b""
            return
        length = int.from_bytes(upload[at : at + 2], "big")
        content, at = upload[at + 2 : at + length], at + length
        if at > len(upload) or length < 2:
            raise InvalidImage("the picture is damaged: a JPEG segment is cut off")
        coded: bytes | memoryview = b""
        if kind == SCAN:
            following = MARKER.search(upload, at)
            end = following.start() if following else len(upload)
            start, at = at, end
            if upload.endswith(FILL, start, end):  # before the next marker
                end = start + len(upload[start:end].rstrip(FILL))
            coded = memoryview(upload)[start:end]  # no copy
        yield kind, content, coded
    raise too_many("JPEG segments", MAX_PARTS)
