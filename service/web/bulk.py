"""Many images in one body, and their probabilities in one: rows of bytes, or .npy."""

import io

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from service.features import IMAGE_SIZE

PIXELS = IMAGE_SIZE[0] * IMAGE_SIZE[1]
BYTES, NPY = "application/octet-stream", "application/x-npy"
PICTURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM")
SHOWN = 60  # characters of what is wrong
MAX_HEADER = 1_000  # characters, where a plain array's are about 60


class InvalidArray(ValueError):
    """A body that is not N images; the message says what was found."""


def images_of_bytes(body: bytes) -> npt.NDArray[np.uint8]:
    """Read rows of N x 784 bytes as images (N, 28, 28)."""
    if len(body) % PIXELS:
        hint = ""
        if body.startswith(npy.MAGIC_PREFIX):
            hint = f", and begins as .npy does: send that as {NPY}"
        elif body.startswith(PICTURES):
            hint = ", and begins as a picture does: send that as image/*"
        raise InvalidArray(
            f"the body has {len(body):,} bytes, which is not a multiple of "
            f"{PIXELS} = {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]}{hint}"
        )
    return np.frombuffer(body, np.uint8).reshape(-1, *IMAGE_SIZE)


def images_of_npy(body: bytes) -> npt.NDArray[np.uint8]:
    """Read an .npy file of uint8 (N, 28, 28); no other, and nothing is unpickled."""
    file = io.BytesIO(body)
    try:
        version = npy.read_magic(file)
        read_header = {
            (1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0,
        }[version]
        shape, in_columns, dtype = read_header(file, max_header_size=MAX_HEADER)
    # the header is Python's syntax, and what is wrong with it has many types
    except Exception:
        raise InvalidArray(
            f"the body is not an .npy file of version 1 or 2: it begins with "
            f"{body[:SHOWN]!r}; write it with numpy.save"
        ) from None
    is_whole = all(type(n) is int and n >= 0 for n in shape)
    if dtype != np.uint8 or len(shape) != 3 or shape[1:] != IMAGE_SIZE or not is_whole:
        raise InvalidArray(
            f"the array is {str(dtype)[:SHOWN]} {str(shape)[:SHOWN]}; send uint8 "
            "(N, 28, 28)"
        )
    data = body[file.tell() :]
    if len(data) != shape[0] * PIXELS:
        raise InvalidArray(
            f"the array has {len(data):,} bytes, where its shape {shape} asks for "
            f"{shape[0] * PIXELS:,}"
        )
    images = np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(images.reshape(shape, order="F" if in_columns else "C"))


def npy_of(array: npt.NDArray[np.float32]) -> bytes:
    """Write an array as an .npy file."""
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
