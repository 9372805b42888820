"""Morphology of grey levels and masks: opening, dilation, runs, components."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
Box = tuple[slice, slice]
Pick = Callable[..., npt.NDArray[Any]]

# Counting pixel sides misjudges the length of slanted edges; this factor, measured on
# digits, corrects the stroke width for it.
EDGE_CORRECTION = 1.15


def padded(a: npt.NDArray[Any], before: int = 1, after: int = 1) -> npt.NDArray[Any]:
    """Pad (h, w) with zeros on all sides, much faster than np.pad."""
    h, w = a.shape
    p = np.zeros((before + h + after, before + w + after), a.dtype)
    p[before : before + h, before : before + w] = a
    return p


def _extended(a: npt.NDArray[Any], margin: int = 1) -> npt.NDArray[Any]:
    """Extend (h, w) by `margin` pixels of its own edge on all sides."""
    h, w = a.shape
    p = np.empty((h + 2 * margin, w + 2 * margin), a.dtype)
    p[margin : margin + h, margin : margin + w] = a
    p[:margin], p[margin + h :] = p[margin], p[margin + h - 1]
    p[:, :margin] = p[:, margin : margin + 1]
    p[:, margin + w :] = p[:, margin + w - 1 : margin + w]
    return p


def smooth(grey: Grey) -> Grey:
    """Smooth (h, w) with the 3 x 3 binomial kernel, whose weights are 1, 2, 4 of 16."""
    rows = 2 * grey  # beyond the sides, the edge is repeated
    rows[1:] += grey[:-1]
    rows[0] += grey[0]
    rows[:-1] += grey[1:]
    rows[-1] += grey[-1]
    soft: Grey = 2 * rows
    soft[:, 1:] += rows[:, :-1]
    soft[:, 0] += rows[:, 0]
    soft[:, :-1] += rows[:, 1:]
    soft[:, -1] += rows[:, -1]
    soft *= np.float32(1 / 16)
    return soft


def dilation(a: npt.NDArray[Any], corners: bool = True) -> npt.NDArray[Any]:
    """Dilate a mask or grey levels (h, w) by one pixel.

    Return the maximum over each pixel and its 8 neighbours; without `corners`, its 4.
    """
    widen = np.logical_or if a.dtype == bool else np.maximum
    wide = a.copy()
    widen(wide[1:], a[:-1], out=wide[1:])
    widen(wide[:-1], a[1:], out=wide[:-1])
    if corners:
        a, wide = wide, wide.copy()
    widen(wide[:, 1:], a[:, :-1], out=wide[:, 1:])
    widen(wide[:, :-1], a[:, 1:], out=wide[:, :-1])
    return wide


def opening(
    a: npt.NDArray[Any], size: int, shrink: Pick = np.minimum, widen: Pick = np.maximum
) -> npt.NDArray[Any]:
    """Open (h, w) with a square of `size` x `size` pixels, `size` being odd.

    Bright details narrower than the square vanish. With `shrink` and `widen` swapped
    it is the closing, which fills narrow dark details.
    """
    half = size // 2
    small = _extremes(_extended(a, half), size, shrink)
    return _extremes(_extended(small, half), size, widen)


def closing(mask: Mask, size: int) -> Mask:
    """Close a mask (h, w), surrounded by unset pixels, with a square of `size` x `size`."""
    wide = _extremes(padded(mask, size - 1, size - 1), size, np.logical_or)
    return _extremes(wide, size, np.logical_and)


def _extremes(p: npt.NDArray[Any], size: int, pick: Pick) -> npt.NDArray[Any]:
    """Return the extremes of all windows of size x size pixels; rows first, by doubling."""
    for _ in range(2):
        width = 1
        while width * 2 <= size:
            p = pick(p[:-width], p[width:])
            width *= 2
        # two overlapping windows of `width` pixels cover `size`
        rest = size - width
        p = (pick(p[:-rest], p[rest:]) if rest else p).T
    return p


def despeckle(grey: Grey) -> Grey:
    """Clip each pixel to the second lowest and second highest of its 8 neighbours.

    Isolated pixels vanish. Lines stay, because each of their pixels has two neighbours
    on the line.
    """
    p = _extended(grey)
    h, w = grey.shape
    offsets = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    around = np.stack([p[i : i + h, j : j + w] for i, j in offsets])
    around.sort(axis=0)
    return np.clip(grey, around[1], around[6])


def count_isolated(mask: Mask) -> int:
    """Count the set pixels of a mask (h, w) without a set pixel among 8 neighbours."""
    # as one integer of a bit per pixel, a small mask is moved in a tenth of the time
    row = mask.shape[1] + 2
    bits = int.from_bytes(np.packbits(padded(mask)).tobytes())
    beside = bits << 1 | bits >> 1
    here = bits | beside
    return (bits & ~(beside | here << row | here >> row)).bit_count()


def bounding_box(mask: Mask) -> Box:
    """Return the rows and the columns of the box around the set pixels."""
    # searching bytes takes a tenth of the time of an array operation
    flat, width = mask.tobytes(), mask.shape[1]
    rows = slice(flat.find(1) // width, flat.rfind(1) // width + 1)
    columns = mask[rows].any(0).tobytes()
    return rows, slice(columns.find(1), columns.rfind(1) + 1)


def border_share(mask: Mask) -> float:
    """Return the share of set pixels among those along the four sides, corners twice."""
    sides = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    return sum(map(np.count_nonzero, sides)) / sum(map(len, sides))


def stroke_width(mask: Mask) -> float:
    """Estimate the width of strokes in pixels as twice the area over the perimeter.

    At least one pixel of the mask must be set.
    """
    p = padded(mask)
    level, upright = p[1:] != p[:-1], p[:, 1:] != p[:, :-1]
    perimeter = np.count_nonzero(level) + np.count_nonzero(upright)
    return 2 * np.count_nonzero(mask) / perimeter * EDGE_CORRECTION


class Runs(NamedTuple):
    """Horizontal runs of set pixels in a mask (h, w), in reading order.

    A run covers the columns from `start` to `end`, exclusive, of its row.
    """

    row: Ints
    start: Ints
    end: Ints

    @property
    def length(self) -> Ints:
        """The number of pixels of each run."""
        return self.end - self.start


def horizontal_runs(mask: Mask) -> Runs:
    """Find the horizontal runs of a mask (h, w)."""
    stride = mask.shape[1] + 2
    flat = padded(mask).reshape(-1)
    edges = (flat[1:] != flat[:-1]).nonzero()[0] - stride  # of the padding above
    row = edges[::2] // stride
    return Runs(row, edges[::2] - row * stride, edges[1::2] - row * stride)


def label_runs(runs: Runs, width: int) -> Ints:
    """Label each run of a mask `width` pixels wide with its component, 0..n-1.

    Components are 8-connected.
    """
    stride = width + 2  # keeps the runs of one row from touching those of the next
    row_at = runs.row * stride
    start, end = row_at + runs.start, row_at + runs.end
    # runs of the next row touch this one unless they end before it or start after it
    first = end.searchsorted(start + stride, "left")
    count = np.maximum(start.searchsorted(end + stride, "right") - first, 0)
    own = np.arange(len(start))
    a = own.repeat(count)
    b = np.arange(len(a)) + (first - count.cumsum() + count)[a]
    label, low, high = own.copy(), a, b
    while len(high):
        np.minimum.at(label, high, low)
        # replace every label by its root, which is twice as near after each step
        for _ in range(len(own).bit_length()):
            label = label[label]
        one, other = label[a], label[b]
        apart = (one != other).nonzero()[0]
        one, other = one[apart], other[apart]
        low, high = np.minimum(one, other), np.maximum(one, other)
    if not label.any():  # one component
        return label
    return ((label == own).cumsum() - 1)[label]


def largest_share(mask: Mask) -> float:
    """Return the share of a mask's set pixels, at least one, in its largest component."""
    runs = horizontal_runs(mask)
    area = np.bincount(label_runs(runs, mask.shape[1]), runs.length)
    return float(area.max() / area.sum())


def propagation(seeds: Mask, mask: Mask) -> Mask:
    """Return the components of a mask (h, w) that hold a seed; seeds are in the mask."""
    runs = horizontal_runs(mask)
    label = label_runs(runs, mask.shape[1])
    count = np.add.reduceat(seeds[mask], np.cumsum(runs.length) - runs.length, dtype=np.intp)
    return select_runs(mask, runs, np.bincount(label, count)[label] > 0)


def select_runs(mask: Mask, runs: Runs, chosen: npt.NDArray[np.bool_]) -> Mask:
    """Return a mask (h, w) with only the chosen ones of its runs."""
    if chosen.all():
        return mask
    result = np.zeros_like(mask)
    result[mask] = np.repeat(chosen, runs.length)
    return result


def least_share(mask: Mask, n_cells: int) -> float:
    """Return the least share of set pixels in any of n_cells x n_cells cells of a mask (h, w)."""
    h, w = (side // n_cells for side in mask.shape)
    cells = mask[: h * n_cells, : w * n_cells].reshape(n_cells, h, n_cells, w)
    return float(cells.sum((1, 3), dtype=np.intp).min() / (h * w))
