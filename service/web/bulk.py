"""Bulk requests and replies: images as raw bytes or .npy, probabilities as .npy."""

import io

import numpy as np
from numpy.lib import format as npy
from werkzeug.exceptions import BadRequest

from service.features import IMAGE_SIZE, Floats, Images

PIXELS = IMAGE_SIZE[0] * IMAGE_SIZE[1]
BYTES, NPY = "application/octet-stream", "application/x-npy"
PICTURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM")
SHOWN = 60  # characters of an invalid value that a message shows
# by the version of the format
HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
MAX_HEADER = 1_000  # characters; a plain array's header has about 60


def images_from_bytes(body: bytes) -> Images:
    """Parse N x 784 bytes, row by row, as images (N, 28, 28)."""
    if len(body) % PIXELS:
        hint = ""
        if body.startswith(npy.MAGIC_PREFIX):
            hint = f"; it looks like an .npy file: send that as {NPY}"
        elif body.startswith(PICTURES):
            hint = "; it looks like a picture: send that as image/*"
        raise BadRequest(
            f"the body has {len(body):,} bytes, which is not a multiple of "
            f"{PIXELS} = {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]}{hint}"
        )
    return np.frombuffer(body, np.uint8).reshape(-1, *IMAGE_SIZE)


def images_from_npy(body: bytes) -> Images:
    """Parse an .npy file of uint8 (N, 28, 28); nothing is ever unpickled."""
    file = io.BytesIO(body)
    try:
        read_header = HEADER_READERS[npy.read_magic(file)]
        shape, in_columns, dtype = read_header(file, max_header_size=MAX_HEADER)
    # the header is a Python literal: a malformed one raises many types of errors
    except Exception:
        raise BadRequest(
            f"the body is not an .npy file of version 1 or 2: it begins with "
            f"{body[:SHOWN]!r}; write it with numpy.save"
        ) from None
    is_valid = shape[1:] == IMAGE_SIZE and type(shape[0]) is int and shape[0] >= 0
    if dtype != np.uint8 or not is_valid:
        raise BadRequest(
            f"the array is {str(dtype)[:SHOWN]} {str(shape)[:SHOWN]}; send uint8 (N, 28, 28)"
        )
    data = body[file.tell() :]
    if len(data) != shape[0] * PIXELS:
        raise BadRequest(
            f"the array has {len(data):,} bytes, but its shape {shape} requires "
            f"{shape[0] * PIXELS:,}"
        )
    images = np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(images.reshape(shape, order="F" if in_columns else "C"))


PARSERS = {BYTES: images_from_bytes, NPY: images_from_npy}


def to_npy(array: Floats) -> bytes:
    """Write an array as an .npy file."""
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
