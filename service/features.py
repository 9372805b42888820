"""Feature maps φ, shared by training and serving so that they cannot disagree."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

WAVES = 350  # per cell
# Radians per unit of an edge feature. The same cells of two digits are about 4 units
# apart, which turns a wave by 1.6 radians. From 0.34 to 0.48, accuracy is the same.
FREQUENCY = 0.41
PRIME = 431  # of the Legendre symbols: the least beyond the last window's end
GOLDEN_RATIO = (1 + sqrt(5)) / 2

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
    with _WORKSPACES.use() as work:
        for first in range(0, len(images), CHUNK):
            chunk = slice(first, first + CHUNK)
            coarse = _pool_directions(_normalise(images[chunk], work), work)
            _pool_differences(coarse, work, features[chunk])
    return features


EDGES = DIRECTIONS * len(NEIGHBOURS) * 2  # features of a cell
N_STROKE_EDGES, N_STROKE_WAVES = EDGES * CELLS**2, WAVES * CELLS**2


def stroke_waves(images: Images) -> Floats:
    """Compute waves over the stroke edges of each cell of a normalised digit.

    images (n, 28, 28), light on dark -> features (n, 3150): for each of 3 x 3 cells,
    cos(ω_j·e + b_j) for 350 fixed ω_j, where e (80,) are the cell's stroke edges.

    These are random Fourier features, with fixed signs in place of random numbers. The
    mean product of the waves of two cells is about exp(-f² |e - e'|² / 2) / 2, where
    the entries of ω are ±f: a linear model of waves is close to a kernel machine, which
    combines the edges within each cell. Rahimi, Recht, "Random features for large-scale
    kernel machines", 2007
    """
    cells = stroke_edges(images).reshape(-1, EDGES, CELLS**2).transpose(0, 2, 1)
    waves = np.empty((len(images), CELLS**2, WAVES), np.float32)
    for first in range(0, len(images), CHUNK):
        chunk = slice(first, first + CHUNK)
        np.matmul(cells[chunk], _WAVES, out=waves[chunk])
        waves[chunk] += _PHASES
        np.cos(waves[chunk], out=waves[chunk])
    return waves.reshape(len(images), N_STROKE_WAVES)


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


def _centred(n: int) -> Array:
    """Return the coordinates of n points along a side, from its centre."""
    return np.arange(n) - (n - 1) / 2


def _moments_of_pixels() -> Floats:
    """Compute 1, x, y, x², xy, y² of every pixel, from the centre: (28 * w, 6)."""
    y, x = np.meshgrid(_centred(IMAGE_SIZE[0]), _centred(_PADDED), indexing="ij")
    powers = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    return _constant(powers.reshape(-1, 6) / MAX_GREY)


def _grid_terms(u: Array) -> Array:
    """Compute 1, u, v of every row v of the grid and every u: (3, grid rows * len(u))."""
    v, u = np.meshgrid(_centred(_RINGED), u, indexing="ij")
    return np.stack([np.ones_like(v), u, v]).reshape(3, -1)


def _direction_terms() -> Floats:
    """Compute the weights of g_x, g_y and |g| in each direction: (directions, 3)."""
    step = 2 * pi / DIRECTIONS
    angle = step * np.arange(DIRECTIONS)
    terms = np.stack([np.cos(angle), np.sin(angle), np.full(DIRECTIONS, -cos(step))], 1)
    return _constant(terms / (1 - cos(step)))


def _legendre_signs() -> Floats:
    """Compute the signs of the waves' frequencies: (edges, waves) of -1 and 1.

    Each wave takes a window of the Legendre symbols (i | p), which are 1 where i is a
    square modulo the prime p. They are as good as random, but always the same.
    """
    symbols = np.full(PRIME, -1)
    symbols[np.arange(PRIME) ** 2 % PRIME] = 1
    return _constant(symbols[1 + np.add.outer(np.arange(EDGES), np.arange(WAVES))])


_WAVES = _legendre_signs() * np.float32(FREQUENCY)
_PHASES = _constant(2 * pi * GOLDEN_RATIO * np.arange(WAVES) % (2 * pi))
_MOMENTS, _DIRECTIONS = _moments_of_pixels(), _direction_terms()
_COLUMNS = _constant(_grid_terms(_centred(_RINGED)))  # 1, u, v
_ROWS = _constant(_grid_terms(-_centred(IMAGE_SIZE[0]))[[0, 2, 1]])  # 1, v, -y
# where each point's row starts in the flattened rows of all images of a chunk
_ROW_START = _constant(np.arange(CHUNK * _RINGED).repeat(_RINGED).reshape(CHUNK, 1, -1) * _PADDED)
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
# numpy compares with an array three times as fast as with a number
_EDGE_FLOOR = np.full(GRID * _RINGED, RECTIFIER_FLOOR)
_FLOOR = np.full((len(NEIGHBOURS), _N_DIFFERENCES), RECTIFIER_FLOOR)
_MINUS_FLOOR = -_FLOOR
_POOL_CELLS = _constant(np.kron(_CELLS, _CELLS)[_INNER : _N_FLAT - _INNER] * SCALE**2)


class _Workspace:
    """The large working arrays for CHUNK images, each named for the result it holds."""

    def __init__(self) -> None:
        def empty(*shape: int) -> Floats:
            return np.empty((CHUNK, *shape), np.float32)

        self.padded = np.zeros((CHUNK, IMAGE_SIZE[0], _PADDED), np.float32)
        self.row_weights = empty(1, _RINGED * IMAGE_SIZE[0])
        self.rows = empty(_RINGED, _PADDED)
        self.gradient = empty(3, GRID * _RINGED)
        self.edges = empty(DIRECTIONS, GRID * _RINGED)
        self.pooled_x = empty(DIRECTIONS * GRID, _COARSE_RINGED)
        self.coarse = empty(DIRECTIONS, _COARSE_RINGED, _COARSE_RINGED)
        self.differences = empty(DIRECTIONS, len(NEIGHBOURS), _N_DIFFERENCES)
        self.rectified = empty(DIRECTIONS, 2, len(NEIGHBOURS), _N_DIFFERENCES)


class _Workspaces:
    """Workspaces for as many threads as compute φ at once.

    The system would take back fresh arrays of this size after every call; faulting them
    in again takes longer than the arithmetic.
    """

    def __init__(self) -> None:
        self._idle: list[_Workspace] = []

    @contextmanager
    def use(self) -> Iterator[_Workspace]:
        """Lend a workspace to one thread."""
        try:
            work = self._idle.pop()
        except IndexError:
            work = _Workspace()
        try:
            yield work
        finally:
            self._idle.append(work)


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


def _normalise(images: Images, work: _Workspace) -> Floats:
    """Warp images (n, 28, 28) into normalised digits: (n, ringed grid laid out flat).

    The bilinear warp has two steps: rows of the grid are weighted sums of image rows,
    and each is then resampled along x.
    """
    n, height, width = images.shape
    padded = work.padded[:n]
    padded[:, :, MARGIN : MARGIN + width] = images
    moments = padded.reshape(n, 1, -1) @ _MOMENTS
    warp = np.array([_warp_of(each) for (each,) in moments.tolist()], np.float32)
    warp = warp[:, np.newaxis]
    # triangular windows: w - w² |distance of the grid's row from the image's|, or 0
    weights = np.matmul(warp[..., :3], _ROWS, out=work.row_weights[:n])
    np.abs(weights, out=weights)
    np.subtract(warp[..., 6:], weights, out=weights)
    np.maximum(weights, _ZERO, out=weights)
    rows = np.matmul(weights.reshape(n, _RINGED, height), padded, out=work.rows[:n])
    column = warp[..., 3:6] @ _COLUMNS
    np.maximum(column, _ZERO, out=column)
    np.minimum(column, _LAST_COLUMN, out=column)
    whole = np.floor(column)
    column -= whole
    whole += _ROW_START[:n]
    index, flat = whole.astype(np.intp), rows.reshape(-1)
    digits, right = flat.take(index), flat[1:].take(index)
    right -= digits
    right *= column
    digits += right
    return digits[:, 0]


def _pool_directions(digits: Floats, work: _Workspace) -> Floats:
    """Compute the roots of the pooled direction maps: (n, directions, coarse map)."""
    n, end = digits.shape
    gradient, edges, pooled_x = work.gradient[:n], work.edges[:n], work.pooled_x[:n]
    np.subtract(
        digits[:, _RINGED + 1 : end - _RINGED + 1],
        digits[:, _RINGED - 1 : end - _RINGED - 1],
        out=gradient[:, 0],
    )
    np.subtract(digits[:, 2 * _RINGED :], digits[:, : end - 2 * _RINGED], out=gradient[:, 1])
    squares = gradient[:, :2] * gradient[:, :2]
    np.sqrt(squares[:, 0] + squares[:, 1], out=gradient[:, 2])
    np.matmul(_DIRECTIONS, gradient, out=edges)
    np.maximum(edges, _EDGE_FLOOR, out=edges)
    np.matmul(edges.reshape(n, -1, _RINGED), _POOL_X, out=pooled_x)
    maps = pooled_x.reshape(n, DIRECTIONS, GRID, _COARSE_RINGED)
    coarse = np.matmul(_POOL_Y, maps, out=work.coarse[:n])
    return np.sqrt(coarse, out=coarse).reshape(n, DIRECTIONS, _N_FLAT)


def _pool_differences(coarse: Floats, work: _Workspace, features: Floats) -> None:
    """Write the roots of the coarse maps' pooled differences into features (n, 720)."""
    n = len(coarse)
    differences, rectified = work.differences[:n], work.rectified[:n]
    for i, offset in enumerate(_OFFSETS):
        np.subtract(
            coarse[..., _INNER + offset : _N_FLAT - _INNER + offset],
            coarse[..., _INNER - offset : _N_FLAT - _INNER - offset],
            out=differences[:, :, i],
        )
    np.maximum(differences, _FLOOR, out=rectified[:, :, 0])
    np.minimum(differences, _MINUS_FLOOR, out=rectified[:, :, 1])
    cells = features.reshape(n, -1, CELLS * CELLS)
    np.matmul(rectified.reshape(n, -1, _N_DIFFERENCES), _POOL_CELLS, out=cells)
    np.abs(cells, out=cells)
    np.sqrt(cells, out=cells)


# The one declaration of a feature map: whatever is listed here trains, serves and
# explains its answers.
FEATURES: dict[str, FeatureMap] = {
    "pixels": pixels,
    "stroke-edges": stroke_edges,
    "stroke-waves": stroke_waves,
}


def n_features(name: str) -> int:
    """Return the number of features D of a map, found by applying it to no image."""
    return FEATURES[name](np.zeros((0, *IMAGE_SIZE), np.uint8)).shape[1]
