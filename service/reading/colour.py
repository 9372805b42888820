"""Direction of the colour in which ink differs from its background."""

from math import cos, sin

import numpy as np

from service.reading.morphology import Grey, Mask, border_share
from service.reading.order_statistics import STRAY_PIXELS, from_top, median, otsu, strongest

# The ink's colour is taken from the pixels with this part of the strongest difference's
# energy, which is at this rank from the top, or lower, in a large picture.
STRONG_ENERGY, STRONGEST_RANK, PIXELS_PER_RANK = 0.25, 8, 200
# The lines of squared paper may have a colour of their own. Pixels with GRID_ENERGY of
# that energy are ink or lines, and cover at most MAX_SEEN of the picture; most of the
# lines' are within NEAR_GRID radians of one colour. Along the border they have at least
# GRID_BORDER of their density. Without their colour, MIN_KEPT of the ink's is left.
GRID_ENERGY, MAX_SEEN, NEAR_GRID, GRID_BORDER, MIN_KEPT = 0.04, 0.3, 0.1, 0.3, 1 / 3
TINY = np.finfo(np.float32).tiny
MIN_GRID_SIDE = 48  # pixels: in less, lines and strokes look the same


def ink_direction(differences: Grey) -> Grey:
    """Find the colour direction (3,) along which ink differs most from background.

    It is the first principal component of the strongest differences (3, h, w), or
    a direction in which a grid of another colour is not seen.
    """
    colours, shape = differences.reshape(3, -1), differences.shape[1:]
    energy = np.einsum("cn,cn->n", colours, colours)
    rank = max(STRONGEST_RANK, len(energy) // PIXELS_PER_RANK)
    (most,) = from_top(energy, rank)
    strong = colours.compress(energy >= STRONG_ENERGY * most, axis=1)
    direction = np.linalg.eigh(strong @ strong.T)[1][:, -1]
    seen = energy >= GRID_ENERGY * most
    if min(shape) >= MIN_GRID_SIDE and np.count_nonzero(seen) < MAX_SEEN * len(seen):
        direction = _direction_without_grid(colours, seen.reshape(shape), direction)
    direction = direction / np.abs(direction).sum()
    return (direction if direction.sum() >= 0 else -direction).astype(np.float32)


def _direction_without_grid(colours: Grey, seen: Mask, direction: Grey) -> Grey:
    """Find the colour direction at right angles to that of a grid of lines.

    Of two colours among the differences (3, h * w) that are seen (h, w), the grid's is
    the weaker one, and is as common along the border of the picture. Without a grid, or
    where its colour is nearly the ink's, return `direction`.
    """
    colours = colours.compress(seen.reshape(-1), axis=1)
    second, first = np.linalg.eigh(colours @ colours.T)[1].T[1:]
    x, y = first @ colours, second @ colours
    # light and dark differences of one colour have the same angle
    angle = np.arctan(y / np.where(x == 0, TINY, x))
    if np.ptp(angle) < NEAR_GRID:
        return direction
    above = angle > otsu(angle)
    if not STRAY_PIXELS <= np.count_nonzero(above) <= len(above) - STRAY_PIXELS:
        return direction
    strength = np.sqrt(x * x + y * y)
    is_grid = above if strongest(strength[above]) < strongest(strength[~above]) else ~above
    turn = median(angle[is_grid])
    across: Grey = cos(turn) * second - sin(turn) * first
    kept = strongest(np.abs(across @ colours)[~is_grid]) / strongest(strength)
    grid = np.zeros_like(seen)
    grid[seen] = is_grid
    if (
        kept < MIN_KEPT
        or (np.abs(angle[is_grid] - turn) < NEAR_GRID).mean() < 0.5
        or border_share(grid) < GRID_BORDER * grid.mean()
    ):
        return direction
    return across
