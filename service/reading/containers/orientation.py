"""Orientation of a picture by its EXIF data or its XMP text."""

import re
import struct

ORIENTATIONS = range(1, 9)
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
TAG, SHORT, LONG = 0x0112, 3, 4
VALUES = {SHORT: "H", LONG: "I"}  # by the type of the value; writers use both
ENTRY_BYTES, UPRIGHT = 12, 1
XMP_TAG = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation, 1 to 8, of EXIF data, or None if it is absent or damaged.

    exif: a TIFF file, whose first directory holds the tag (Exif 3.0, 4.6.5).
    """
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", exif, directory)
        entries = exif[directory + 2 :][: n_entries * ENTRY_BYTES]
        for tag, kind, count, field in struct.iter_unpack(f"{order}HHI4s", entries):
            if tag == TAG and count == 1 and kind in VALUES:
                (value,) = struct.unpack_from(order + VALUES[kind], field)
                return value if value in ORIENTATIONS else UPRIGHT
    except struct.error:  # the directory is not in the data
        pass
    return None


def xmp_orientation(xmp: bytes) -> int | None:
    """Return the orientation, 1 to 8, of XMP text, or None if there is none."""
    found = XMP_TAG.search(xmp)
    return int(found[1]) if found else None
