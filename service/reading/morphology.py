"""Mathematical morphology of pictures: extremes, components, runs, stroke width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Pick = Callable[..., npt.NDArray[Any]]

# A slanted edge is longer than its pixels' sides are counted: measured on digits.
EDGE_CORRECTION = 1.15


def _ringed(a: npt.NDArray[Any], repeat: bool = False) -> npt.NDArray[Any]:
    """Add a ring of zeros to (h, w), or of its own edge, much faster than np.pad."""
    h, w = a.shape
    p = np.zeros((h + 2, w + 2), a.dtype)
    p[1:-1, 1:-1] = a
    if repeat:
        p[0], p[-1] = p[1], p[-2]
        p[:, 0], p[:, -1] = p[:, 1], p[:, -2]
    return p


def blurred(grey: Grey) -> Grey:
    """Average (h, w) over 3 x 3 pixels, the middle weighing four times a corner."""
    p = _ringed(grey, repeat=True)
    p = p[:-2] + 2 * p[1:-1] + p[2:]
    result: Grey = (p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]) * np.float32(1 / 16)
    return result


def grown(mask: Mask) -> Mask:
    """Set every pixel that has a set one among its 8 neighbours or is set itself."""
    p = _ringed(mask)
    p = p[:-2] | p[1:-1] | p[2:]
    return p[:, :-2] | p[:, 1:-1] | p[:, 2:]


def dilated(grey: Grey, corners: bool) -> Grey:
    """Take the largest of the 4 neighbours and the pixel itself, or of all 8."""
    p = _ringed(grey, repeat=True)
    if corners:
        p = np.maximum(np.maximum(p[:-2], p[1:-1]), p[2:])
        return np.maximum(np.maximum(p[:, :-2], p[:, 1:-1]), p[:, 2:])
    vertical = np.maximum(np.maximum(p[:-2, 1:-1], p[2:, 1:-1]), grey)
    return np.maximum(np.maximum(p[1:-1, :-2], p[1:-1, 2:]), vertical)


def opened(
    a: npt.NDArray[Any], size: int, shrink: Pick = np.minimum, widen: Pick = np.maximum
) -> npt.NDArray[Any]:
    """Remove what is narrower than `size`, an odd number of pixels, in any direction.

    A closing, which fills instead, with `shrink` and `widen` changed over.
    """
    return _extreme(_extreme(a, size, shrink), size, widen)


def _extreme(a: npt.NDArray[Any], size: int, pick: Pick) -> npt.NDArray[Any]:
    """Take the extreme over size x size pixels: rows, then columns, by doubling."""
    half = size // 2
    for _ in range(2):
        p = np.concatenate([a[:1].repeat(half, 0), a, a[-1:].repeat(half, 0)])
        width = 1
        while width * 2 <= size:
            p = pick(p[:-width], p[width:])
            width *= 2
        rest = size - width
        # the two windows that overlap within `size`
        a = (pick(p[: len(p) - rest], p[rest:]) if rest else p).T
    return a


def despeckled(grey: Grey) -> Grey:
    """Hold each pixel within the second least and second most of its 8 neighbours.

    Single pixels go; lines, whose pixels have two neighbours on them, stay.
    """
    p = _ringed(grey, repeat=True)
    h, w = grey.shape
    offsets = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    around = np.stack([p[i : i + h, j : j + w] for i, j in offsets])
    around.sort(axis=0)
    return np.clip(grey, around[1], around[6])


def count_lone(mask: Mask) -> int:
    """Count the set pixels without a set neighbour."""
    p = _ringed(mask).astype(np.int8)
    p = p[:-2] + p[1:-1] + p[2:]
    return int(np.count_nonzero(mask & (p[:, :-2] + p[:, 1:-1] + p[:, 2:] == 1)))


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """Find the top, bottom, left and right of what is set, ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def border_of(mask: Mask) -> Mask:
    """List the pixels along the four sides of (h, w), the corners twice."""
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def stroke_width(mask: Mask) -> float:
    """Estimate the width of strokes, in pixels: twice the area over the perimeter.

    The mask has at least one pixel set.
    """
    p = _ringed(mask)
    perimeter = np.count_nonzero(p[1:] != p[:-1]) + np.count_nonzero(
        p[:, 1:] != p[:, :-1]
    )
    return 2 * np.count_nonzero(mask) / perimeter * EDGE_CORRECTION


@dataclass(frozen=True)
class Runs:
    """The horizontal runs of a mask (h, w), in reading order.

    Their rows, and their columns from `start` to `end`, the end exclusive.
    """

    row: npt.NDArray[np.intp]
    start: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]

    @property
    def length(self) -> npt.NDArray[np.intp]:
        """Their numbers of pixels."""
        return self.end - self.start


def runs_of(mask: Mask) -> Runs:
    """Find the horizontal runs of a mask."""
    h, w = mask.shape
    padded = np.zeros((h, w + 2), np.int8)
    padded[:, 1:-1] = mask
    edges = np.flatnonzero(np.diff(padded.ravel()))
    row = edges[::2] // (w + 2)
    return Runs(row, edges[::2] - row * (w + 2), edges[1::2] - row * (w + 2))


def components_of(runs: Runs, width: int) -> npt.NDArray[np.intp]:
    """Label each run with its 8-connected component, 0..n-1, in a mask so many wide."""
    stride = width + 2  # so that the runs of one row never touch those of the next
    start, end = runs.row * stride + runs.start, runs.row * stride + runs.end
    # the runs of the next row that touch: those neither ended before nor not yet begun
    first = np.searchsorted(end, start + stride, "left")
    count = np.maximum(np.searchsorted(start, end + stride, "right") - first, 0)
    a = np.repeat(np.arange(len(start)), count)
    b = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count) + first[a]
    label = np.arange(len(start))
    while len(a):
        one, other = label[a], label[b]
        apart = one != other
        a, b, one, other = a[apart], b[apart], one[apart], other[apart]
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        # follow the labels of labels to their roots
        while (label[label] != label).any():
            label = label[label]
    return np.unique(label, return_inverse=True)[1]
