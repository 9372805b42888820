"""GIF: the first frame (GIF89a specification)."""

import struct

from service.reading.containers.container import MAX_PARTS, Container, too_many
from service.reading.errors import InvalidImage

SCREEN = struct.Struct("<6x2HBxx")  # width, height, flags
FRAME = struct.Struct("<x4HB")  # left, top, width, height, flags
IMAGE, EXTENSION, END, CONTROL = 0x2C, 0x21, 0x3B, 0xF9
PIXEL_BYTES = 3  # memory per pixel: the frame, the canvas before it and after it
HAS_COLOURS, COLOURS = 0x80, 7  # flags of a colour table, and its size


def walk(upload: bytes) -> Container:
    """Keep the screen, the first frame and the graphic control before it."""
    screen_width, screen_height, flags = SCREEN.unpack_from(upload)
    at = SCREEN.size + _colour_bytes(flags)
    head, control, n_parts = upload[:at], b"", 0
    while upload[at] != IMAGE:
        start, kind = at, upload[at]
        if kind == END:
            raise InvalidImage("the picture is damaged: the GIF has no frame")
        at += 1
        if kind == EXTENSION:
            at, n_parts = _after_blocks(upload, at + 1, n_parts)
            if upload[start + 1] == CONTROL:
                control = upload[start:at]
        n_parts = _counted(n_parts)
    left, top, width, height, flags = FRAME.unpack_from(upload, at)
    data = at + FRAME.size + _colour_bytes(flags) + 1  # after the size of its codes
    end, _ = _after_blocks(upload, data, n_parts)
    width, height = max(screen_width, left + width), max(screen_height, top + height)
    return Container(
        "GIF",
        b"".join((head, control, upload[at:end], bytes([END]))),
        (width, height),
        memory=width * height * PIXEL_BYTES,
    )


def _colour_bytes(flags: int) -> int:
    return 3 << (flags & COLOURS) + 1 if flags & HAS_COLOURS else 0


def _after_blocks(upload: bytes, at: int, n_parts: int) -> tuple[int, int]:
    """Return where the blocks that begin at `at` end, and the number of parts so far."""
    while length := upload[at]:
        at += length + 1
        n_parts = _counted(n_parts)
    return at + 1, n_parts


def _counted(n_parts: int) -> int:
    """Return the number of parts with one more; raise InvalidImage beyond the limit."""
    if n_parts == MAX_PARTS:
        raise too_many("GIF blocks", MAX_PARTS)
    return n_parts + 1
