"""MNIST's framing: ink in a box of 20 pixels, centred by its mass among 28."""

from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.morphology import Grey, Mask, box_of, dilated, stroke_width

# LeCun, Cortes, Burges, "The MNIST database of handwritten digits"
BOX = 20
# What all 70,000 images of MNIST keep to; test_framing.py holds these to the data.
BOXES = (BOX - 1, BOX)
MIN_TOP = 254
MAX_INK_SHARE = 0.45  # of the pixels
CENTRE = (13.45, 14.55)  # index of the centre of mass, in both directions

# Strokes thinner than the first, in pixels of the box, are thickened to the second.
THIN, THIN_TO = 2.4, 2.8
THICK, THICK_TO = 4.6, 4.0  # and thicker ones thinned
FINE = 4  # subpixels to a pixel while that is done
MIDDLE = IMAGE_SIZE[0] // 2
# 1, and the indices of the row and of the column, of every pixel: (784, 3)
_POSITIONS = np.stack(
    [np.ones(IMAGE_SIZE), *np.indices(IMAGE_SIZE)], axis=-1, dtype=np.float32
).reshape(-1, 3)


def is_mnist_shaped(levels: npt.NDArray[np.uint8]) -> bool:
    """Tell whether grey levels (h, w) are framed as MNIST's own images are."""
    if levels.shape != IMAGE_SIZE:
        return False
    # bytes are searched in a tenth of the time that arrays take for so few
    rows, columns = levels.tobytes(), levels.T.tobytes()
    if not any(bytes([level]) in rows for level in range(MIN_TOP, MAX_GREY + 1)):
        return False
    if levels.size - rows.count(0) > MAX_INK_SHARE * levels.size:
        return False
    if max(_extent(rows, IMAGE_SIZE[1]), _extent(columns, IMAGE_SIZE[0])) not in BOXES:
        return False
    # sums of whole numbers below 2^24, which float32 holds exactly
    mass, row, column = (levels.reshape(-1).astype(np.float32) @ _POSITIONS).tolist()
    low, high = CENTRE
    return low * mass < row < high * mass and low * mass < column < high * mass


def _extent(lines: bytes, length: int) -> int:
    """Count the lines, of `length` pixels, from the first to the last with any ink."""
    first = (len(lines) - len(lines.lstrip(b"\0"))) // length
    return -(-len(lines.rstrip(b"\0")) // length) - first


def framed(ink: Grey, mask: Mask) -> npt.NDArray[np.uint8]:
    """Frame ink (h, w) in [0, 1], cropped to the digit, as an image (28, 28).

    mask (h, w): where the strokes are; how wide they are is told by it.
    """
    scale = BOX / max(ink.shape)
    width = stroke_width(mask) * scale
    shape = (ink.shape[0] * scale, ink.shape[1] * scale)
    if THIN <= width <= THICK:
        small = _resized(ink, shape, Image.Resampling.BILINEAR)
    else:
        small = _redrawn(ink, shape, width)
    # strokes reach white, as MNIST's do
    peak = float(np.percentile(small[small > 0.3 * small.max()], 75))
    return _centred(np.clip(small / np.float32(max(peak, 0.05)), 0, 1))


def _resized(
    ink: Grey, shape: tuple[float, float], resampling: Image.Resampling
) -> Grey:
    height, width = (max(1, round(side)) for side in shape)
    picture = Image.fromarray(np.ascontiguousarray(ink))
    return np.clip(np.asarray(picture.resize((width, height), resampling)), 0, 1)


def _redrawn(ink: Grey, shape: tuple[float, float], width: float) -> Grey:
    """Scale ink to `shape` with strokes of MNIST's width in place of `width` pixels."""
    thickens = width < THIN
    change = (THIN_TO if thickens else THICK_TO) - width
    room = max(change, 0.0)  # what thicker strokes add to the box on both sides
    height, breadth = (max(1, int(side - room)) * FINE for side in shape)
    is_small = max(ink.shape) < BOX * FINE
    resampling = Image.Resampling.BICUBIC if is_small else Image.Resampling.BOX
    fine = _resized(ink, (height, breadth), resampling)
    if thickens:
        # a thin stroke is pale once it is scaled: its level must not be thickened
        level = float(np.percentile(fine[fine > 0.1], 60))
        fine = np.clip(fine / np.float32(min(max(level, 0.3), 1.0)), 0, 1)
    radius = abs(change) / 2 * FINE
    # what has grown begins where a pixel begins, so that the box keeps its 20 pixels
    before = 2 * FINE + ceil(radius)
    fine = np.pad(fine, (before, 2 * FINE + -before % FINE))
    for i in range(int(radius) + 1):
        # a cross and a square in turn make an octagon
        corners = i % 2 == 1
        wider = dilated(fine, corners) if thickens else -dilated(-fine, corners)
        fine = fine + (wider - fine) * np.float32(min(radius - i, 1.0))
    h, w = fine.shape
    result: Grey = fine.reshape(h // FINE, FINE, w // FINE, FINE).mean((1, 3))
    return result


def _centred(ink: Grey) -> npt.NDArray[np.uint8]:
    """Put ink (h, w) in [0, 1] with its centre of mass in the middle of (28, 28)."""
    levels = np.rint(ink * MAX_GREY).astype(np.uint8)
    top, bottom, left, right = box_of(levels > 0)
    levels = levels[top:bottom, left:right][: IMAGE_SIZE[0], : IMAGE_SIZE[1]]
    y, x = (
        min(max(round(MIDDLE - centre), 0), side - length)
        for centre, side, length in zip(
            _centre_of_mass(levels), IMAGE_SIZE, levels.shape, strict=True
        )
    )
    image = np.zeros(IMAGE_SIZE, np.uint8)
    image[y : y + levels.shape[0], x : x + levels.shape[1]] = levels
    return image


def _centre_of_mass(levels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Find the row and the column of the centre of mass, as indices."""
    rows = levels.sum(1, dtype=np.float64)
    columns = levels.sum(0, dtype=np.float64)
    total = rows.sum()
    row = float(rows @ np.arange(len(rows)) / total)
    return row, float(columns @ np.arange(len(columns)) / total)
