"""The row of digits of a number: its pieces of ink, and the segments that may be a digit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.features import IMAGE_SIZE
from service.reading import morphology
from service.reading.binarise import Strokes
from service.reading.cuts import find_cuts
from service.reading.errors import NoDigit
from service.reading.mnist_format import to_mnist_format
from service.reading.morphology import Grey, Ints, Mask
from service.reading.ruled_lines import remove_ruled_lines
from service.reading.segmentation import Components, choose_main, is_stroke, least_area, stretched

MAX_PIECES = 64  # components: a row has the largest ones
TALL = 0.5  # of the main component's height: a smaller one is a part of a digit
SAME_ROW = 0.4  # of the lesser height: components of one row overlap by more
FLAT = 0.4  # height over width: a flatter component, such as a bar, is no row of its own
STACKED, ABOVE = 0.6, 0.3  # of the lesser width and height: parts one above the other
CUT_WIDTH = 0.45  # of the height of the row: no narrower shape is two digits
# of the height of the row: the sides of a digit; and the pieces that it has at most
MAX_WIDTH, HEIGHTS, MAX_JOINED = 1.9, (0.45, 2.2), 16
WIDE_DIGIT = 1.3  # of the height of the row: a shape that is wider may be two digits

Key = tuple[int, ...]  # the labels of a segment's pieces


class Segment(NamedTuple):
    """Consecutive pieces of a row that may be one digit."""

    first: int  # of its pieces
    last: int  # exclusive
    key: Key
    height: float  # of the row's height
    is_wide: bool  # wider than a digit is
    cut: float  # of the row's height: the ink that the cut at its left side crosses


@dataclass
class Row:
    """The ink of a row of digits, in pieces; arrays are (h, w).

    label: 0 where there is no ink, else that of the piece; order: the labels from left
    to right; height: pixels, of a usual digit; cuts: the pixels of ink that were crossed
    by the cut left of a piece.
    """

    plane: Grey
    floor: float
    label: Ints
    order: list[int]
    height: float
    has_several_rows: bool
    cuts: dict[int, float]

    def segments(self) -> Iterator[Segment]:
        """Yield what may be one digit."""
        boxes = self.boxes()
        for first in range(len(boxes)):
            for last in range(first + 1, min(first + MAX_JOINED, len(boxes)) + 1):
                top, left = boxes[first:last, :2].min(0)
                bottom, right = boxes[first:last, 2:].max(0)
                height = float(bottom - top) / self.height
                width = float(right - left) / self.height
                is_one = last == first + 1
                if width > MAX_WIDTH and not is_one:
                    break
                if is_one or HEIGHTS[0] <= height <= HEIGHTS[1]:
                    key = tuple(self.order[first:last])
                    cut = self.cuts.get(key[0], 0.0) / self.height
                    yield Segment(first, last, key, height, width > WIDE_DIGIT, cut)

    def boxes(self) -> Ints:
        """Return the top, left, bottom and right of each piece: (n, 4)."""
        y, x = np.nonzero(self.label)
        place = np.zeros(int(self.label.max()) + 1, np.intp)
        place[self.order] = np.arange(len(self.order))
        piece = place[self.label[y, x]]
        low = np.full((len(self.order), 2), max(self.label.shape))
        high = np.zeros_like(low)
        for axis, at in enumerate((y, x)):
            np.minimum.at(low[:, axis], piece, at)
            np.maximum.at(high[:, axis], piece, at + 1)
        return np.concatenate([low, high], axis=1)

    def box(self, key: Key) -> morphology.Box:
        """Return the rows and the columns of the box around a segment."""
        return morphology.bounding_box(np.isin(self.label, key))

    def image(self, key: Key) -> npt.NDArray[np.uint8]:
        """Return a segment as an image (28, 28) like MNIST's; black if it is no stroke."""
        box = self.box(key)
        rows, columns = (slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        label = self.label[rows, columns]
        mask = np.isin(label, key)
        if not is_stroke(mask):
            return np.zeros(IMAGE_SIZE, np.uint8)
        others = (label > 0) & ~mask
        near = morphology.dilation(mask) & ~others
        ink = stretched(self.plane[rows, columns], self.floor, mask) * near
        return to_mnist_format(ink, mask)

    def cut(self, key: int) -> Key:
        """Cut a piece wherever two digits may touch; return the new pieces."""
        box = self.box((key,))
        label = self.label[box]
        mask = label == key
        if mask.shape[1] < CUT_WIDTH * self.height:
            return (key,)
        paths = find_cuts(mask)
        columns = np.arange(mask.shape[1])
        right_of = np.zeros(mask.shape, np.intp)
        for path in paths:
            right_of += columns >= path[:, np.newaxis]
        first = int(self.label.max()) + 1
        label[mask] = first + right_of[mask]
        new = np.unique(label[mask]).tolist()
        place = self.order.index(key)
        self.order[place : place + 1] = new
        rows = np.arange(len(mask))
        for piece in new[1:]:
            path = paths[piece - first - 1]
            self.cuts[piece] = float(mask[rows, np.minimum(path, mask.shape[1] - 1)].sum())
        self.cuts[new[0]] = self.cuts.get(key, 0.0)
        return tuple(new)


def select_row(strokes: Strokes) -> Row:
    """Select the components of one row of digits, without ruled lines, frames and specks.

    Raises InvalidImage where there is none.
    """
    mask = remove_ruled_lines(strokes.mask)
    if not mask.any():
        raise NoDigit("no ink stands out from the background")
    parts = Components(mask)
    possible, main = choose_main(parts, strokes.plane[mask])
    height = parts.bottom - parts.top
    tall = possible & (height >= TALL * height[main])
    chosen = np.flatnonzero(tall)
    chosen = chosen[np.argsort(-parts.area[chosen], kind="stable")][:MAX_PIECES]
    # of smaller components, those near a tall one are its parts
    small = (
        possible & ~tall & (parts.area >= np.min([least_area(parts, int(i)) for i in chosen], 0))
    )
    smaller = np.flatnonzero(small)
    smaller = smaller[np.argsort(-parts.area[smaller], kind="stable")]
    upright = chosen[(height >= FLAT * (parts.right - parts.left))[chosen]]
    rows = _groups(upright, lambda i, j: _overlap(parts.top, parts.bottom, i, j) > SAME_ROW)
    chosen = np.concatenate([chosen, smaller])[:MAX_PIECES]
    labels = _groups(chosen, lambda i, j: _are_stacked(parts, i, j))
    piece = np.zeros(len(parts.area), np.intp)
    piece[chosen] = labels + 1
    label = np.zeros(mask.shape, np.intp)
    label[mask] = np.repeat(piece[parts.label], parts.runs.length)
    usual = float(np.median(height[tall]))
    order = np.unique(labels + 1).tolist()
    has_several = len(np.unique(rows)) > 1
    row = Row(strokes.plane, strokes.floor, label, order, usual, has_several, {})
    boxes = row.boxes()
    row.order = np.array(row.order)[np.argsort(boxes[:, 1] + boxes[:, 3])].tolist()
    return row


def _overlap(start: Ints, end: Ints, i: Ints, j: Ints) -> npt.NDArray[np.float64]:
    """Return the overlap of components along one axis, of the lesser of their sides."""
    both = np.minimum(end[i], end[j]) - np.maximum(start[i], start[j])
    return both / np.minimum(end[i] - start[i], end[j] - start[j])


def _are_stacked(parts: Components, i: Ints, j: Ints) -> Mask:
    beside = _overlap(parts.left, parts.right, i, j)
    above = _overlap(parts.top, parts.bottom, i, j)
    return (beside > STACKED) & (above < ABOVE)


def _groups(chosen: Ints, are_joined: Callable[[Ints, Ints], Mask]) -> Ints:
    """Label n components by the groups that pairs of them form: (n,), from 0."""
    label = np.arange(len(chosen))
    joined = are_joined(chosen[:, np.newaxis], chosen)
    for i, j in zip(*np.nonzero(np.triu(joined, 1)), strict=True):
        label[label == label[j]] = label[i]
    return np.unique(label, return_inverse=True)[1]
