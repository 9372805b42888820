"""A picture file reduced to the parts that carry pixels."""

from collections.abc import Callable
from typing import NamedTuple

from service.reading.errors import InvalidImage

# Parts (chunks, segments, blocks) of a file: each takes about 1 µs to skip. A PNG of
# 16 MiB has 2,048 chunks of pixels, a GIF of 16 MiB 65,536 blocks.
MAX_PARTS = 100_000


class Container(NamedTuple):
    """A file that holds one picture and nothing else, and the memory that it takes."""

    kind: str  # the format, as Pillow names it
    content: bytes
    size: tuple[int, int]  # width and height in pixels
    memory: int  # bytes that decoding takes at its peak
    orientation: int | None = None  # of EXIF: 1 to 8
    # more bytes of memory, where counting them takes time
    extra_memory: Callable[[], int] = int
    has_end: bool = True  # False for a JPEG without its end marker
    # Pillow's mode and the compressed rows of a small PNG that needs nothing else
    plain: tuple[str, bytes] | None = None


def too_many(parts: str, limit: int) -> InvalidImage:
    """Return the error for a file of more parts than the limit."""
    return InvalidImage(f"the file has more than {limit:,} {parts}; save the picture again")
