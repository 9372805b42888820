"""Feature maps φ, shared by training and serving so that they cannot disagree."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
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

# The normalised digit has GRID x GRID points. In steps of this grid, the standard
# deviation of its ink is HEIGHT along y. Along x it approaches WIDTH by WIDTH_POWER: 1
# would normalise the width completely, 0 would keep the digit's own.
GRID = 22
HEIGHT, WIDTH, WIDTH_POWER = 4.8, 3.9, 0.8
NARROWEST = 0.5  # of WIDTH: narrower digits, such as 1, stay narrow
FLATTEST = 0.45  # of the width's scale: flatter digits stay flat
MAX_SLANT = 0.8  # pixels along x per pixel along y
PIXEL_VARIANCE = 0.08  # pixels²: the extent of a pixel itself
MIN_VARIANCE = 0.05  # pixels²
MIN_MASS = 1e-3  # of one white pixel: with less ink, an image counts as blank

DIRECTIONS = 10  # of the gradient, around the circle
COARSE = 10  # points per side of each direction's map after the first pooling
CELLS = 3  # per side, after the second pooling
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (y, x) steps of the differences
# The rectifiers' minimum, in place of 0: a root magnifies rounding errors near 0.
RECTIFIER_FLOOR = np.float32(0.05)
SCALE = 1.32  # makes the total variance about 80, which suits learning rates near 1

CHUNK = 16  # images: their working arrays fit a processor's cache
MARGIN = 6  # empty columns on both sides of an image, which a warp may reach into

_RINGED = GRID + 2  # one more point on every side, for the gradient
_COARSE_RINGED = COARSE + 2
_PADDED = IMAGE_SIZE[1] + 2 * MARGIN
_ZERO, _LAST_COLUMN = np.float32(0), np.float32(_PADDED - 1.01)


def pixels(images: Images) -> Floats:
    """Return the grey levels themselves as features.

    images (n, 28, 28) in 0..255 -> features (n, 784) in [0, 1]
    """
    n, height, width = images.shape
    return images.reshape(n, height * width).astype(np.float32) / np.float32(MAX_GREY)


def stroke_edges(images: Images) -> Floats:
    """Compute where edges of each direction begin and end on a normalised digit.

    images (n, 28, 28), light on dark -> features (n, 720): for each of 10 directions,
    both signs of 4 differences, each in 3 x 3 cells.

    1  The moments of the ink give its centre, slant, height and width. One bilinear
       warp normalises all four.
    2  With the gradient g and directions u_k at equal angles w, the maps
       max(0, (g·u_k - |g| cos w) / (1 - cos w)) measure how much edge runs along u_k.
       They are pooled to 10 x 10 by triangular windows; their square roots follow.
    3  Each map is differenced along rows, columns and both diagonals. The positive and
       the negative parts are pooled to 3 x 3; their square roots are the features.

    The second half of a direction histogram (Dalal, Triggs, "Histograms of oriented
    gradients", 2005) is replaced by step 3, which distinguishes the ends, corners and
    bends of a stroke from its middle.
    """
    features = np.empty((len(images), N_STROKE_EDGES), np.float32)
    for first in range(0, len(images), CHUNK):
        chunk = images[first : first + CHUNK]
        with _WORKSPACES.use(len(chunk)) as work:
            _normalise(chunk, work)
            _pool_directions(work)
            _pool_differences(work, features[first : first + CHUNK])
    return features


N_STROKE_EDGES = DIRECTIONS * len(NEIGHBOURS) * 2 * CELLS * CELLS


def _windows(size: int, count: int, first: float, last: float) -> Array:
    """Compute the weights of `count` triangular windows over 0..size-1: (size, count).

    Their centres are evenly spaced from first to last, and each window reaches the
    centres of its neighbours.
    """
    reach = (last - first) / (count - 1)
    distance = np.abs(np.arange(size)[:, np.newaxis] - np.linspace(first, last, count))
    windows = np.maximum(0, 1 - distance / reach)
    return windows / windows.sum(axis=0).max()


def _constant(array: Array) -> Floats:
    return np.ascontiguousarray(array, np.float32)


def _moments_of_pixels() -> Floats:
    """Compute 1, x, y, x², xy, y² of every pixel, from the centre: (28 * w, 6)."""
    height, _ = IMAGE_SIZE
    y, x = np.mgrid[:height, :_PADDED].astype(float)
    y, x = y - (height - 1) / 2, x - (_PADDED - 1) / 2
    powers = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    return _constant(powers.reshape(height * _PADDED, 6) / MAX_GREY)


def _points() -> Array:
    """Return the coordinates of the normalised grid along a side, from its centre."""
    return np.arange(_RINGED) - (_RINGED - 1) / 2


def _row_terms() -> Floats:
    """Compute 1, v, -y of grid rows v, image rows y: (3, grid rows * image rows)."""
    height, _ = IMAGE_SIZE
    v, y = np.meshgrid(_points(), np.arange(height) - (height - 1) / 2, indexing="ij")
    return _constant(np.stack([np.ones_like(v), v, -y]).reshape(3, -1))


def _column_terms() -> Floats:
    """Compute 1, u, v of every point of the grid: (3, grid rows * grid columns)."""
    v, u = np.meshgrid(_points(), _points(), indexing="ij")
    return _constant(np.stack([np.ones_like(v), u, v]).reshape(3, -1))


def _direction_terms() -> Floats:
    """Compute the weights of g_x, g_y and |g| in each direction: (directions, 3)."""
    step = 2 * pi / DIRECTIONS
    angle = step * np.arange(DIRECTIONS)
    terms = np.stack([np.cos(angle), np.sin(angle), np.full(DIRECTIONS, -cos(step))], 1)
    return _constant(terms / (1 - cos(step)))


_MOMENTS, _ROWS, _COLUMNS = _moments_of_pixels(), _row_terms(), _column_terms()
_DIRECTIONS = _direction_terms()
# The windows are 0 on the outer points: cutting these off would take more time.
_POOL = np.pad(_windows(GRID, COARSE, 1.5, GRID - 2.5), ((0, 0), (1, 1)))
_POOL_X = _constant(np.pad(_POOL, ((1, 1), (0, 0))))  # (ringed, coarse ringed)
_POOL_Y = _constant(_POOL.T)  # (coarse ringed, grid)
_CELLS = np.pad(_windows(COARSE, CELLS, 0.5, COARSE - 1.5), ((1, 1), (0, 0)))
# Distances of neighbours on a flattened coarse map. From the first point that has all
# neighbours to the last, a difference is one subtraction of two slices.
_OFFSETS = [dy * _COARSE_RINGED + dx for dy, dx in NEIGHBOURS]
_INNER = _COARSE_RINGED + 1
_N_FLAT = _COARSE_RINGED**2
_N_DIFFERENCES = _N_FLAT - 2 * _INNER
_POOL_CELLS = _constant(np.kron(_CELLS, _CELLS)[_INNER : _N_FLAT - _INNER] * SCALE**2)


class _Workspace:
    """The working arrays for n images, each named for the result it holds."""

    def __init__(self, n: int) -> None:
        def empty(*shape: int) -> Floats:
            return np.empty((n, *shape), np.float32)

        height, points = IMAGE_SIZE[0], _RINGED**2
        start = np.arange(n * _RINGED, dtype=np.float32) * _PADDED
        self.padded = np.zeros((n, height, _PADDED), np.float32)
        self.row_weights = empty(1, _RINGED * height)
        self.rows = empty(_RINGED, _PADDED)
        self.column = empty(1, points)
        self.whole = empty(1, points)
        self.index = np.empty((n, 1, points), np.intp)
        self.row_start = np.repeat(start, _RINGED).reshape(n, 1, points)
        self.digit = empty(1, points)
        self.right = empty(1, points)
        self.gradient = empty(3, GRID * _RINGED)
        self.squares = empty(2, GRID * _RINGED)
        self.edges = empty(DIRECTIONS, GRID * _RINGED)
        self.pooled_x = empty(DIRECTIONS * GRID, _COARSE_RINGED)
        self.coarse = empty(DIRECTIONS, _COARSE_RINGED, _COARSE_RINGED)
        self.differences = empty(DIRECTIONS, len(NEIGHBOURS), _N_DIFFERENCES)
        self.rectified = empty(DIRECTIONS, 2, len(NEIGHBOURS), _N_DIFFERENCES)

    def first(self, n: int) -> "_Workspace":
        """Return the parts of the arrays for the first n images."""
        part = copy(self)
        vars(part).update({name: array[:n] for name, array in vars(self).items()})
        return part


class _Workspaces:
    """Working arrays for as many threads as compute φ at once.

    The system would take back fresh arrays after every call; faulting them in again
    takes longer than the arithmetic.
    """

    def __init__(self) -> None:
        self._idle: list[dict[int, _Workspace]] = []  # by the number of images

    @contextmanager
    def use(self, n: int) -> Iterator[_Workspace]:
        """Lend working arrays for n images, at most CHUNK, to one thread."""
        try:
            works = self._idle.pop()
        except IndexError:
            works = {CHUNK: _Workspace(CHUNK)}
        if n not in works:
            works[n] = works[CHUNK].first(n)
        try:
            yield works[n]
        finally:
            self._idle.append(works)


_WORKSPACES = _Workspaces()


class Placement(NamedTuple):
    """Position of the normalised grid in an image, in pixels from the image's centre.

    The point in row v and column u of the grid, counted from the grid's centre, lies at
    (x + width u + slant v, y + height v).
    """

    y: float
    height: float
    x: float
    width: float
    slant: float


def placement_of(image: Images) -> Placement:
    """Compute the position of the grid on one image (28, 28)."""
    padded = np.pad(image, ((0, 0), (MARGIN, MARGIN))).astype(np.float32)
    return _placement(*(padded.reshape(-1) @ _MOMENTS).tolist())


def _placement(mass: float, x: float, y: float, xx: float, xy: float, yy: float) -> Placement:
    """Compute the position of the grid from the moments of the ink."""
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
    """Compute the coefficients of an image's warp from its moments.

    There are three for the rows, three for the columns, and the weight w of the rows:
    where the digit shrinks, w < 1 widens the windows that average its rows.
    """
    y, height, x, width, slant = _placement(*moments)
    w = 1 / max(height, 1.0)
    middle = (_PADDED - 1) / 2
    return y * w * w, height * w * w, w * w, x + middle, width, slant, w


def _normalise(images: Images, work: _Workspace) -> None:
    """Warp images (n, 28, 28) into work.digit: (n, ringed grid laid out flat).

    The bilinear warp has two steps: rows of the grid are weighted sums of image rows,
    and each is then resampled along x.
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
    # no index is out of range; mode "clip" writes into out without a copy
    rows.take(work.index, out=work.digit, mode="clip")
    rows[1:].take(work.index, out=work.right, mode="clip")
    np.subtract(work.right, work.digit, out=work.right)
    np.multiply(work.right, column, out=work.right)
    np.add(work.digit, work.right, out=work.digit)


def _pool_directions(work: _Workspace) -> None:
    """Write the roots of the pooled direction maps of work.digit into work.coarse."""
    digit, gradient = work.digit[:, 0], work.gradient
    n, end = digit.shape
    np.subtract(
        digit[:, _RINGED + 1 : end - _RINGED + 1],
        digit[:, _RINGED - 1 : end - _RINGED - 1],
        out=gradient[:, 0],
    )
    np.subtract(digit[:, 2 * _RINGED :], digit[:, : end - 2 * _RINGED], out=gradient[:, 1])
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
    """Write the roots of work.coarse's pooled differences into features (n, 720)."""
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


# The one declaration of a feature map: whatever is listed here trains, serves and
# explains its answers.
FEATURES: dict[str, FeatureMap] = {"pixels": pixels, "stroke-edges": stroke_edges}


def n_features(name: str) -> int:
    """Return the number of features D of a map, found by applying it to no image."""
    return FEATURES[name](np.zeros((0, *IMAGE_SIZE), np.uint8)).shape[1]
