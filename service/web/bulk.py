"""Bulk requests and replies: images as raw bytes or .npy, probabilities as .npy."""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from werkzeug.exceptions import BadRequest

from service.features import IMAGE_SIZE, MAX_GREY, Floats, Images
from service.images import are_mnist_shaped
from service.web.hints import hint
from service.web.problems import SHOWN

PIXELS = IMAGE_SIZE[0] * IMAGE_SIZE[1]
BYTES, NPY = "application/octet-stream", "application/x-npy"
# by the version of the format
HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
MAX_HEADER = 1_000  # characters; a plain array's header has about 60

N_SAMPLED = 64  # images of a batch that are tried in other layouts
MIN_SHARE = 0.5  # of MNIST-shaped images in a batch; below it, other layouts are tried
MAX_FAINT = 7  # grey level: a picture whose ink is as faint is not read either
# in absolute value: the levels other than 0 that an array of each type may plausibly hold
INTEGERS, FLOATS = (1, 255), (1e-6, 1e4)
TYPES = dict.fromkeys(("int64", "int32", "int16"), INTEGERS) | dict.fromkeys(
    ("float64", "float32", "float16"), FLOATS
)
CHANNELS = {3: "RGB", 4: "RGBA", 2: "grey and alpha"}
COLOUR_PLANES, MIN_EQUAL = (3, 4), 10  # numbers of planes; images whose planes are equal
NUMBERS = re.compile(rb"[\d\s.,;eE+\[\]-]+")  # such as CSV; no image has only these levels
PADDED_SIDE = 32  # pixels, as LeNet-5 takes MNIST's images
AS_BYTES = "send uint8, 0 for the background to 255 for the ink, row by row"


def images_from_bytes(body: bytes) -> Images:
    """Parse N x 784 bytes, row by row, as images (N, 28, 28)."""
    if len(body) % PIXELS:
        refuse_other_layouts(body)
        raise BadRequest(
            f"the body has {len(body):,} bytes, which is not a multiple of "
            f"{PIXELS} = {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]}{hint(body)}"
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
            f"{body[:SHOWN]!r}; write it with numpy.save{hint(body)}"
        ) from None
    is_valid = shape[1:] == IMAGE_SIZE and type(shape[0]) is int and shape[0] >= 0
    if dtype != np.uint8 or not is_valid:
        raise BadRequest(
            f"the array is {str(dtype)[:SHOWN]} {str(shape)[:SHOWN]}; send uint8 (N, 28, 28) of "
            "grey levels from 0 to 255: of levels from 0 to 1, send "
            "(255 * images).astype(numpy.uint8).reshape(-1, 28, 28)"
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


def unusual_images(images: Images) -> npt.NDArray[np.intp]:
    """Return the indices of the images (N, 28, 28) that are not MNIST-shaped.

    Raises BadRequest if most of them are not, but would be in another layout.
    """
    is_shaped = are_mnist_shaped(images)
    if is_shaped.mean() < MIN_SHARE:
        refuse_other_layouts(images.tobytes())
    for n in COLOUR_PLANES:
        planes = images.reshape(-1, n, PIXELS) if len(images) % n == 0 else images[:0]
        # equal planes, and not merely a few images that are sent repeatedly
        is_equal = len(planes) >= MIN_EQUAL and (planes[:, 1:3] == planes[:, :1]).all()
        if is_equal and (planes[1:] != planes[:-1]).any(axis=(1, 2)).all():
            raise BadRequest(
                f"the body looks like images with {n} planes each ({CHANNELS[n]}); {AS_BYTES}"
            )
    return np.flatnonzero(~is_shaped)


def refuse_other_layouts(body: bytes) -> None:
    """Raise BadRequest if most images of a body are MNIST-shaped in another layout."""
    # grey levels may be printable
    if text := hint(body, may_be_text=False):
        raise BadRequest(f"the body is not an array of images{text}")
    if NUMBERS.fullmatch(body):
        raise BadRequest(f"the body looks like numbers written as text; {AS_BYTES}")
    for name, levels in _readings(body):
        if not levels.size or not np.ptp(levels):
            continue
        grey = MAX_GREY * ((levels - levels.min()) / np.ptp(levels))
        images = np.rint(grey).astype(np.uint8).reshape(-1, *IMAGE_SIZE)
        if are_mnist_shaped(images).mean() >= MIN_SHARE:
            raise BadRequest(f"the body looks like {name}; {AS_BYTES}")
        # the inverted images, inverted again, are those of the body itself
        if are_mnist_shaped(MAX_GREY - images).mean() >= MIN_SHARE and "inverted" not in name:
            raise BadRequest(f"the body looks like {name}, inverted; {AS_BYTES}")


def _readings(body: bytes) -> Iterator[tuple[str, Floats]]:
    """Yield a sample of levels (n, 784) of the body in each layout, and its name."""

    def rows(length: int, kind: str = "u1") -> npt.NDArray[Any]:
        size = np.dtype(kind).itemsize * length
        whole = np.frombuffer(body, kind) if len(body) % size == 0 else np.empty(0, kind)
        return whole.reshape(-1, length)[:: max(1, len(body) // size // N_SAMPLED)]

    plain = rows(PIXELS)
    yield "inverted images (dark ink on a light ground)", MAX_GREY - plain.astype(float)
    if (most := plain.max(initial=0)) <= MAX_FAINT:
        yield f"images of levels from 0 to {most}", plain.astype(float)
    for name, (low, high) in TYPES.items():
        for order in ("little", "big"):
            with np.errstate(all="ignore"):  # the bytes may be other numbers
                numbers = rows(PIXELS, np.dtype(name).newbyteorder(order).str).astype(float)
                sizes = np.abs(numbers[numbers != 0])
            if ((low <= sizes) & (sizes <= high)).all():
                yield f"{name} numbers ({order}-endian)", numbers
    for n, name in CHANNELS.items():
        channels = rows(PIXELS * n).reshape(-1, PIXELS, n)
        yield f"images with {n} channels per pixel ({name})", channels[..., 0].astype(float)
    labelled = rows(PIXELS + 1).astype(float)
    yield "images with a label before each", labelled[:, 1:]
    yield "images with a label after each", labelled[:, :-1]
    padded = rows(PADDED_SIDE**2).astype(float).reshape(-1, PADDED_SIDE, PADDED_SIDE)
    inner = slice((PADDED_SIDE - IMAGE_SIZE[0]) // 2, (PADDED_SIDE + IMAGE_SIZE[0]) // 2)
    yield "images of 32 x 32 pixels", padded[:, inner, inner].reshape(-1, PIXELS)
    if len(body) % PIXELS == 0 and len(body) > PIXELS:
        columns = np.frombuffer(body, np.uint8).reshape(PIXELS, -1)[:, :N_SAMPLED]
        yield "an array (28, 28, N), the image last", columns.T.astype(float)


def to_npy(array: Floats) -> bytes:
    """Write an array as an .npy file."""
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
