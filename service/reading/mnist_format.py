"""MNIST normalisation: a box of 20 x 20 pixels, centred by mass in 28 x 28."""

from functools import lru_cache
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.morphology import (
    Grey,
    Mask,
    bounding_box,
    closing,
    dilation,
    padded,
    stroke_width,
)
from service.reading.order_statistics import quantiles

# LeCun, Cortes, Burges, "The MNIST database of handwritten digits"
BOX = 20
# Bounds that all 70,000 images of MNIST satisfy; a test checks them against the data.
BOXES = (BOX - 1, BOX)  # pixels: the longer side of the ink
MIN_TOP = 254  # grey level of the brightest pixel
MAX_INK_SHARE = 0.45  # of the pixels
CENTRE = (13.45, 14.55)  # index of the centre of mass, in both directions

# Stroke widths in pixels of the box: strokes thinner than THIN are thickened to it,
# strokes thicker than THICK are thinned to THICK_TO.
THIN = 2.4
THICK, THICK_TO = 4.6, 4.0
MAX_RADIUS = 2  # pixels: the most that either side of a stroke moves
FINE = 4  # subpixels per pixel while widths change
OPENING = 3  # subpixels: the width that strokes, while thickened, leave between them
# Ink above a share of its strongest is a stroke's; this quantile of it becomes white.
STROKE_SHARE, WHITE_QUANTILE, MIN_WHITE = 0.3, 0.75, 0.05
# the level of a thin stroke after scaling: this quantile of the ink above a level
MIN_THIN_INK, THIN_QUANTILE, MIN_THIN_LEVEL = 0.1, 0.6, 0.3
# Ink is resized by matrices of weights, of which so many are kept. Those of larger ink are
# seldom used again.
SMALL_SIDE, MAX_WEIGHTS = IMAGE_SIZE[0], 256
BLOCK = 256  # images that are checked at once: their bytes fit into a CPU's cache
MIDDLE = IMAGE_SIZE[0] // 2
# 1, and the indices of the row and of the column, of every pixel: (784, 3)
_POSITIONS = np.stack([np.ones(IMAGE_SIZE), *np.indices(IMAGE_SIZE)], -1, dtype=np.float32)
_POSITIONS = _POSITIONS.reshape(-1, 3)
# the weights of subpixels in the mean of each pixel
_MEANS = np.kron(np.eye(2 * BOX), np.full(FINE, 1 / FINE)).astype(np.float32)


def is_mnist_shaped(levels: npt.NDArray[np.uint8]) -> bool:
    """Return whether levels are an image (28, 28) within the bounds of MNIST's own."""
    if levels.shape != IMAGE_SIZE:
        return False
    # searching so few bytes takes a tenth of the time of an array operation
    rows = levels.tobytes()
    if levels.size - rows.count(0) > MAX_INK_SHARE * levels.size:
        return False
    if not any(bytes([level]) in rows for level in range(MIN_TOP, MAX_GREY + 1)):
        return False
    columns = levels.T.tobytes()
    if max(_extent(rows, IMAGE_SIZE[1]), _extent(columns, IMAGE_SIZE[0])) not in BOXES:
        return False
    # sums of integers below 2^24 are exact in float32
    mass, row, column = (levels.reshape(-1).astype(np.float32) @ _POSITIONS).tolist()
    low, high = CENTRE
    return low * mass < row < high * mass and low * mass < column < high * mass


def are_mnist_shaped(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return is_mnist_shaped (n,) of images (n, 28, 28), in a sixth of the time."""
    is_shaped = [_are_shaped(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK)]
    return np.concatenate([*is_shaped, np.empty(0, bool)])


def _are_shaped(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    levels = np.ascontiguousarray(images).reshape(len(images), -1)
    # four pixels at a time: (n, 28, 7)
    words = levels.view(np.uint32).reshape(len(levels), IMAGE_SIZE[0], -1)
    rows = np.bitwise_or.reduce(words, axis=2) != 0
    columns = np.bitwise_or.reduce(words, axis=1).view(np.uint8) != 0
    heights, widths = (
        ink.shape[1] - ink.argmax(axis=1) - ink[:, ::-1].argmax(axis=1) for ink in (rows, columns)
    )
    mass, row, column = (levels.astype(np.float32) @ _POSITIONS).T.astype(np.float64)
    low, high = CENTRE
    is_centred = [(low * mass < at) & (at < high * mass) for at in (row, column)]
    is_bright = levels.max(axis=1) >= MIN_TOP
    is_sparse = np.count_nonzero(levels, axis=1) <= MAX_INK_SHARE * levels.shape[1]
    fits = np.isin(np.maximum(heights, widths), BOXES)
    return np.logical_and.reduce([is_bright, is_sparse, fits, *is_centred])


def _extent(lines: bytes, length: int) -> int:
    """Count the lines of `length` pixels from the first to the last that has ink."""
    first = (len(lines) - len(lines.lstrip(b"\0"))) // length
    return -(-len(lines.rstrip(b"\0")) // length) - first


def to_mnist_format(ink: Grey, mask: Mask) -> npt.NDArray[np.uint8]:
    """Convert ink (h, w) in [0, 1], cropped to the digit, to an image (28, 28).

    mask (h, w): the pixels of strokes, from which their width is estimated.
    """
    scale = BOX / max(ink.shape)
    width = stroke_width(mask) * scale
    height, breadth = (side * scale for side in ink.shape)
    if THIN <= width <= THICK:
        size = max(1, round(height)), max(1, round(breadth))
        small = _resize(ink, size, Image.Resampling.BILINEAR)
    else:
        small = _redraw(ink, (height, breadth), width)
    # strokes reach white, as MNIST's do
    strokes = small[small > STROKE_SHARE * small.max()]
    white = max(*quantiles(strokes, WHITE_QUANTILE), MIN_WHITE)
    return _centre((small / np.float32(white)).clip(0, 1))


def _resize(ink: Grey, size: tuple[int, int], resampling: Image.Resampling) -> Grey:
    """Resize ink (h, w) as Pillow does; a small one in a third of its time."""
    if max(ink.shape) > SMALL_SIDE:
        # as fromarray does, which takes longer
        levels = np.ascontiguousarray(ink)
        picture = Image.frombuffer("F", ink.shape[::-1], levels, "raw", "F", 0, 1)
        resized = picture.resize(size[::-1], resampling).tobytes()
        return np.frombuffer(resized, np.float32).reshape(size).clip(0, 1)
    rows, columns = (_weights(*sides, resampling) for sides in zip(ink.shape, size, strict=True))
    return rows.dot(ink).dot(columns.T).clip(0, 1)


@lru_cache(MAX_WEIGHTS)
def _weights(side: int, new_side: int, resampling: Image.Resampling) -> Grey:
    """Return the weight of each of `side` pixels in each new one: (new_side, side)."""
    units = Image.fromarray(np.eye(side, dtype=np.float32))
    return np.asarray(units.resize((side, new_side), resampling))


def _redraw(ink: Grey, shape: tuple[float, float], width: float) -> Grey:
    """Resize ink to `shape` and change its strokes from `width` to MNIST's width."""
    thickens = width < THIN
    change = (THIN if thickens else THICK_TO) - width
    room = max(change, 0.0)  # pixels that thicker strokes add to the box
    height, breadth = (max(1, int(side - room)) for side in shape)
    is_small = max(ink.shape) < BOX * FINE
    resampling = Image.Resampling.BICUBIC if is_small else Image.Resampling.BOX
    fine = _resize(ink, (height * FINE, breadth * FINE), resampling)
    if thickens:
        # resizing makes a thin stroke pale: restore its level before thickening it
        faintest = min(MIN_THIN_INK, fine.max() / 2)  # specks in a long box are fainter
        (level,) = quantiles(fine[fine > faintest], THIN_QUANTILE)
        fine = (fine / np.float32(min(max(level, MIN_THIN_LEVEL), 1.0))).clip(0, 1)
    radius = min(abs(change) / 2, MAX_RADIUS) * FINE
    # align the changed ink with whole pixels, so that the box keeps its 20 pixels
    before = FINE + (ceil(radius) if thickens else -int(radius) % FINE)
    fine = padded(fine, before, before + -2 * before % FINE)
    fine = _thickened(fine, radius) if thickens else 1 - _thickened(1 - fine, radius)
    rows, columns = (_MEANS[: side // FINE, :side] for side in fine.shape)
    small: Grey = rows.dot(fine).dot(columns.T)
    return small


def _thickened(fine: Grey, radius: float) -> Grey:
    """Thicken strokes (h, w) by `radius` subpixels, but do not close their openings.

    The gap of a 3 and the loop of a small 9 are narrower than a pen of MNIST. So each
    step enters only background into which a square fits that has room for the steps
    from both sides and for an opening between them.
    """
    strokes = fine >= 0.5
    for step in range(1, int(radius) + 2):
        # a cross and a square in alternation approximate a disc by an octagon
        wider = dilation(fine, corners=step % 2 == 0)
        # the margin is of one class, so that it does not matter what lies beyond it
        narrow = closing(strokes, OPENING + 2 * step) & ~strokes
        np.copyto(wider, fine, where=narrow)
        fine = fine + (wider - fine) * np.float32(min(radius - step + 1, 1.0))
    return fine


def _centre(ink: Grey) -> npt.NDArray[np.uint8]:
    """Place ink (h, w) in [0, 1] with its centre of mass at the centre of (28, 28)."""
    levels = np.rint(ink * MAX_GREY).astype(np.uint8)
    levels = levels[bounding_box(levels > 0)][: IMAGE_SIZE[0], : IMAGE_SIZE[1]]
    image = np.zeros(IMAGE_SIZE, np.uint8)
    place = []
    for axis, side in enumerate(IMAGE_SIZE):
        mass = levels.sum(1 - axis).tolist()  # of each row, then of each column
        centre = sum(at * each for at, each in enumerate(mass)) / sum(mass)
        start = min(max(round(MIDDLE - centre), 0), side - len(mass))
        place.append(slice(start, start + len(mass)))
    image[tuple(place)] = levels
    return image
