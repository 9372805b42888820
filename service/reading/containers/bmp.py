"""BMP: files without compression (Windows GDI, bitmap header types)."""

import struct

from service.reading.containers.container import Container
from service.reading.errors import UnknownFormat

HEADER_AT = 14  # bytes of the file header
OLD_HEADER = 12  # bytes of the header of OS/2 1
UNCOMPRESSED = (0, 3)  # levels, or bit fields of levels
PALETTE_BITS = 8  # pixels of 8 bits or fewer are indices into a palette


def walk(upload: bytes) -> Container:
    """Check that a BMP is not compressed, and keep all of it."""
    (header,) = struct.unpack_from("<I", upload, HEADER_AT)
    if header == OLD_HEADER:
        width, height, _, bits = struct.unpack_from("<4H", upload, HEADER_AT + 4)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<2i2HI", upload, HEADER_AT + 4)
    if compression not in UNCOMPRESSED:
        raise UnknownFormat(
            f"the file is a BMP with compression {compression}; save it uncompressed or as PNG"
        )
    pixel_bytes = 1 if bits <= PALETTE_BITS else 4
    height = abs(height)
    return Container("BMP", upload, (width, height), memory=width * height * pixel_bytes)
