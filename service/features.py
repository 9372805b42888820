"""φ: the fixed feature maps, shared by training and serving so they cannot disagree."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, pi, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IMAGE_SIZE = (28, 28)
MAX_GREY = 255

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
FeatureMap = Callable[[Images], Floats]

# The normalised digit: GRID x GRID points, in whose steps the ink's standard deviations
# are HEIGHT along y and, as far as WIDTH_POWER goes, WIDTH along x.
GRID = 22
HEIGHT, WIDTH, WIDTH_POWER = 4.8, 3.9, 0.8
NARROWEST = 0.5  # of WIDTH: narrower digits, such as 1, stay narrow
FLATTEST = 0.45  # of the width's scale: flatter digits stay flat
MAX_SLANT = 0.8
PIXEL_VARIANCE = 0.08  # what a pixel's own extent adds to the ink's
MIN_VARIANCE = 0.05
MIN_MASS = 1e-3  # of one white pixel

DIRECTIONS = 10  # of the gradient, around the circle
COARSE = 10  # points a side of each direction's map after the first pooling
CELLS = 3  # a side after the second
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # along which the maps are differenced
# Instead of 0, below which the rectifiers do not go: a root magnifies rounding near 0.
RECTIFIER_FLOOR = np.float32(0.05)
SCALE = 1.32  # gives the features a total variance of about 80: rates near 1 suit them

CHUNK = 16  # images whose working arrays stay in a processor's cache
MARGIN = 6  # empty columns on both sides of an image, into which a warp may reach

_RINGED = GRID + 2  # one more point on every side, for the differences
_COARSE_RINGED = COARSE + 2
_PADDED = IMAGE_SIZE[1] + 2 * MARGIN
_ZERO, _LAST_COLUMN = np.float32(0), np.float32(_PADDED - 1.01)


def pixels(images: Images) -> Floats:
    """Take the grey levels themselves as features.

    images (n, 28, 28) in 0..255 -> features (n, 784) in [0, 1]
    """
    n, height, width = images.shape
    return images.reshape(n, height * width).astype(np.float32) / np.float32(MAX_GREY)


def stroke_edges(images: Images) -> Floats:
    """Describe where edges of each direction begin and end, on a normalised digit.

    images (n, 28, 28), light on dark -> features (n, 720): for each of 10 directions,
    both signs of 4 differences, each in 3 x 3 cells.

    1  The ink's moments give its centre, slant, height and width; one bilinear warp
       brings all four to a standard.
    2  With the gradient g and directions u_k at equal angles w, the maps
       max(0, (g·u_k - |g| cos w) / (1 - cos w)) tell how much edge runs along u_k; they
       are pooled to 10 x 10 by triangular windows, and their roots taken.
    3  Each map is differenced along rows, columns and both diagonals. The positive and
       the negative parts are pooled to 3 x 3, and their roots are the features.

    The second half of a direction histogram (Dalal, Triggs, "Histograms of oriented
    gradients", 2005) is replaced by step 3, which tells a stroke's ends, corners and
    bends apart from its middle.
    """
    features = np.empty((len(images), N_STROKE_EDGES), np.float32)
    for first in range(0, len(images), CHUNK):
        chunk = images[first : first + CHUNK]
        with _workspace(len(chunk)) as work:
            _normalise(chunk, work)
            _pool_directions(work)
            _pool_differences(work, features[first : first + CHUNK])
    return features


N_STROKE_EDGES = DIRECTIONS * len(NEIGHBOURS) * 2 * CELLS * CELLS


def _windows(size: int, count: int, first: float, last: float) -> Array:
    """Space `count` triangular windows over 0..size-1: (size, count).

    Their centres lie evenly from first to last, and each reaches to its neighbours'.
    """
    reach = (last - first) / (count - 1)
    distance = np.abs(np.arange(size)[:, np.newaxis] - np.linspace(first, last, count))
    windows = np.maximum(0, 1 - distance / reach)
    return windows / windows.sum(axis=0).max()


def _constant(array: Array) -> Floats:
    return np.ascontiguousarray(array, np.float32)


def _moments_of_pixels() -> Floats:
    """Give every pixel's 1, x, y, x², xy, y² from the image's middle: (28 * w, 6)."""
    height, _ = IMAGE_SIZE
    y, x = np.mgrid[:height, :_PADDED].astype(float)
    y, x = y - (height - 1) / 2, x - (_PADDED - 1) / 2
    powers = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    return _constant(powers.reshape(height * _PADDED, 6) / MAX_GREY)


def _points() -> Array:
    """Give the normalised grid's coordinates along one side, from its middle."""
    return np.arange(_RINGED) - (_RINGED - 1) / 2


def _row_terms() -> Floats:
    """Give 1, v and -y of grid rows v and image rows y: (3, grid rows * image rows)."""
    height, _ = IMAGE_SIZE
    v, y = np.meshgrid(_points(), np.arange(height) - (height - 1) / 2, indexing="ij")
    return _constant(np.stack([np.ones_like(v), v, -y]).reshape(3, -1))


def _column_terms() -> Floats:
    """Give 1, u and v of every point of the grid: (3, grid rows * grid columns)."""
    v, u = np.meshgrid(_points(), _points(), indexing="ij")
    return _constant(np.stack([np.ones_like(v), u, v]).reshape(3, -1))


def _direction_terms() -> Floats:
    """Give the weights of g_x, g_y and |g| for each direction: (directions, 3)."""
    step = 2 * pi / DIRECTIONS
    angle = step * np.arange(DIRECTIONS)
    terms = np.stack([np.cos(angle), np.sin(angle), np.full(DIRECTIONS, -cos(step))], 1)
    return _constant(terms / (1 - cos(step)))


_MOMENTS, _ROWS, _COLUMNS = _moments_of_pixels(), _row_terms(), _column_terms()
_DIRECTIONS = _direction_terms()
# The rings are carried along, because cutting them off costs more than they do: the
# windows hold zeros there.
_POOL = np.pad(_windows(GRID, COARSE, 1.5, GRID - 2.5), ((0, 0), (1, 1)))
_POOL_X = _constant(np.pad(_POOL, ((1, 1), (0, 0))))  # (ringed, coarse ringed)
_POOL_Y = _constant(_POOL.T)  # (coarse ringed, grid)
_CELLS = np.pad(_windows(COARSE, CELLS, 0.5, COARSE - 1.5), ((1, 1), (0, 0)))
# Neighbours on a coarse map laid out flat; between the first point that has all of them
# and the last, a difference is one subtraction of two slices.
_OFFSETS = [dy * _COARSE_RINGED + dx for dy, dx in NEIGHBOURS]
_INNER = _COARSE_RINGED + 1
_N_FLAT = _COARSE_RINGED**2
_N_DIFFERENCES = _N_FLAT - 2 * _INNER
_POOL_CELLS = _constant(np.kron(_CELLS, _CELLS)[_INNER : _N_FLAT - _INNER] * SCALE**2)


@dataclass(frozen=True)
class _Workspace:
    """The arrays that n images pass through, each named for what is left in it."""

    padded: Floats
    row_weights: Floats
    rows: Floats
    column: Floats
    whole: Floats
    index: npt.NDArray[np.intp]
    row_start: Floats
    digit: Floats
    right: Floats
    gradient: Floats
    squares: Floats
    edges: Floats
    pooled_x: Floats
    coarse: Floats
    differences: Floats
    rectified: Floats

    @classmethod
    def of(cls, n: int) -> "_Workspace":
        def empty(*shape: int) -> Floats:
            return np.empty(shape, np.float32)

        height, points = IMAGE_SIZE[0], _RINGED**2
        start = np.arange(n * _RINGED, dtype=np.float32) * _PADDED
        return cls(
            padded=np.zeros((n, height, _PADDED), np.float32),
            row_weights=empty(n, 1, _RINGED * height),
            rows=empty(n, _RINGED, _PADDED),
            column=empty(n, 1, points),
            whole=empty(n, 1, points),
            index=np.empty((n, 1, points), np.intp),
            row_start=np.repeat(start, _RINGED).reshape(n, 1, points),
            digit=empty(n, 1, points),
            right=empty(n, 1, points),
            gradient=empty(n, 3, GRID * _RINGED),
            squares=empty(n, 2, GRID * _RINGED),
            edges=empty(n, DIRECTIONS, GRID * _RINGED),
            pooled_x=empty(n, DIRECTIONS * GRID, _COARSE_RINGED),
            coarse=empty(n, DIRECTIONS, _COARSE_RINGED, _COARSE_RINGED),
            differences=empty(n, DIRECTIONS, len(NEIGHBOURS), _N_DIFFERENCES),
            rectified=empty(n, DIRECTIONS, 2, len(NEIGHBOURS), _N_DIFFERENCES),
        )

    def first(self, n: int) -> "_Workspace":
        """Give the arrays for the first n images alone."""
        return _Workspace(**{name: array[:n] for name, array in vars(self).items()})


# Sets of working arrays that no thread is using, each with its parts for fewer images.
# Fresh arrays would be given back to the system and faulted in again by every call,
# which costs more than the arithmetic.
_idle: list[dict[int, _Workspace]] = []


@contextmanager
def _workspace(n: int) -> Iterator[_Workspace]:
    """Use working arrays for n images, CHUNK at most."""
    try:
        works = _idle.pop()
    except IndexError:
        works = {CHUNK: _Workspace.of(CHUNK)}
    if n not in works:
        works[n] = works[CHUNK].first(n)
    try:
        yield works[n]
    finally:
        _idle.append(works)


class Placement(NamedTuple):
    """Where the normalised grid lies in an image, in pixels from its middle.

    The grid's row v lies at y + height v, and on it the column u at x + width u +
    slant v, u and v being counted from the grid's middle.
    """

    y: float
    height: float
    x: float
    width: float
    slant: float


def placement_of(image: Images) -> Placement:
    """Place the grid on one image (28, 28)."""
    padded = np.pad(image, ((0, 0), (MARGIN, MARGIN))).astype(np.float32)
    return _placement(*(padded.reshape(-1) @ _MOMENTS).tolist())


def _placement(
    mass: float, x: float, y: float, xx: float, xy: float, yy: float
) -> Placement:
    """Place the grid by the moments of the ink."""
    inverse = 1 / mass if mass > MIN_MASS else 0.0
    x, y = x * inverse, y * inverse
    variance_x = max(xx * inverse - x * x, 0.0) + PIXEL_VARIANCE
    variance_y = max(yy * inverse - y * y, 0.0) + PIXEL_VARIANCE
    covariance = xy * inverse - x * y
    slant = min(max(covariance / variance_y, -MAX_SLANT), MAX_SLANT)
    upright = variance_x + slant * (slant * variance_y - 2 * covariance)
    height = sqrt(variance_y) / HEIGHT
    narrowness = sqrt(max(upright, MIN_VARIANCE)) / (WIDTH * height)
    width = height * max(narrowness, NARROWEST) ** WIDTH_POWER
    return Placement(y, max(height, FLATTEST * width), x, width, slant * height)


def _warp_of(moments: list[float]) -> tuple[float, ...]:
    """Turn the moments of an image into the coefficients of its warp.

    Three for the rows, three for the columns, and w, the rows' weight: where the digit
    shrinks, w < 1 widens the windows that average its rows.
    """
    y, height, x, width, slant = _placement(*moments)
    w = 1 / max(height, 1.0)
    middle = (_PADDED - 1) / 2
    return y * w * w, height * w * w, w * w, x + middle, width, slant, w


def _normalise(images: Images, work: _Workspace) -> None:
    """Warp images (n, 28, 28) into work.digit: (n, ringed grid laid out flat).

    A bilinear warp in two halves: grid rows are weighted sums of image rows, then each
    is resampled along x.
    """
    n = len(images)
    work.padded[:, :, MARGIN : MARGIN + IMAGE_SIZE[1]] = images
    moments = work.padded.reshape(n, 1, -1) @ _MOMENTS
    warp = np.array([_warp_of(each) for (each,) in moments.tolist()], np.float32)
    warp = warp[:, np.newaxis]
    weights, column, whole = work.row_weights, work.column, work.whole
    # triangular windows: w - w² |distance of the grid's row from the image's|, or 0
    np.matmul(warp[..., :3], _ROWS, out=weights)
    np.abs(weights, out=weights)
    np.subtract(warp[..., 6:], weights, out=weights)
    np.maximum(weights, _ZERO, out=weights)
    np.matmul(weights.reshape(n, _RINGED, IMAGE_SIZE[0]), work.padded, out=work.rows)
    np.matmul(warp[..., 3:6], _COLUMNS, out=column)
    np.maximum(column, _ZERO, out=column)
    np.minimum(column, _LAST_COLUMN, out=column)
    np.floor(column, out=whole)
    column -= whole
    whole += work.row_start
    work.index[...] = whole
    rows = work.rows.reshape(-1)
    # no index is out of range; "clip" is the mode that writes straight into out
    rows.take(work.index, out=work.digit, mode="clip")
    rows[1:].take(work.index, out=work.right, mode="clip")
    np.subtract(work.right, work.digit, out=work.right)
    np.multiply(work.right, column, out=work.right)
    np.add(work.digit, work.right, out=work.digit)


def _pool_directions(work: _Workspace) -> None:
    """Leave the roots of the pooled direction maps of work.digit in work.coarse."""
    digit, gradient = work.digit[:, 0], work.gradient
    n, end = digit.shape
    np.subtract(
        digit[:, _RINGED + 1 : end - _RINGED + 1],
        digit[:, _RINGED - 1 : end - _RINGED - 1],
        out=gradient[:, 0],
    )
    np.subtract(
        digit[:, 2 * _RINGED :], digit[:, : end - 2 * _RINGED], out=gradient[:, 1]
    )
    np.multiply(gradient[:, :2], gradient[:, :2], out=work.squares)
    np.add(work.squares[:, 0], work.squares[:, 1], out=gradient[:, 2])
    np.sqrt(gradient[:, 2], out=gradient[:, 2])
    np.matmul(_DIRECTIONS, gradient, out=work.edges)
    np.maximum(work.edges, RECTIFIER_FLOOR, out=work.edges)
    np.matmul(work.edges.reshape(n, -1, _RINGED), _POOL_X, out=work.pooled_x)
    maps = work.pooled_x.reshape(n, DIRECTIONS, GRID, _COARSE_RINGED)
    np.matmul(_POOL_Y, maps, out=work.coarse)
    np.sqrt(work.coarse, out=work.coarse)


def _pool_differences(work: _Workspace, features: Floats) -> None:
    """Leave the roots of the pooled differences of work.coarse in features (n, 720)."""
    n = len(features)
    coarse = work.coarse.reshape(n, DIRECTIONS, _N_FLAT)
    for i, offset in enumerate(_OFFSETS):
        np.subtract(
            coarse[..., _INNER + offset : _N_FLAT - _INNER + offset],
            coarse[..., _INNER - offset : _N_FLAT - _INNER - offset],
            out=work.differences[:, :, i],
        )
    np.maximum(work.differences, RECTIFIER_FLOOR, out=work.rectified[:, :, 0])
    np.minimum(work.differences, -RECTIFIER_FLOOR, out=work.rectified[:, :, 1])
    cells = features.reshape(n, -1, CELLS * CELLS)
    np.matmul(work.rectified.reshape(n, -1, _N_DIFFERENCES), _POOL_CELLS, out=cells)
    np.abs(cells, out=cells)
    np.sqrt(cells, out=cells)


FEATURES: dict[str, FeatureMap] = {"pixels": pixels, "stroke-edges": stroke_edges}


def n_features(name: str) -> int:
    """Count the features D that the map `name` gives, by applying it to no image."""
    width: int = FEATURES[name](np.zeros((0, *IMAGE_SIZE), np.uint8)).shape[1]
    return width
