"""The row of digits of a number: its pieces of ink, and the segments that may be a digit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.features import IMAGE_SIZE
from service.reading import morphology
from service.reading.components import Components
from service.reading.cuts import find_cuts
from service.reading.mnist_format import to_mnist_format
from service.reading.morphology import Grey, Ints, Mask
from service.reading.order_statistics import median
from service.reading.segmentation import (
    CLOSE,
    FAINT,
    FLAT,
    Marks,
    above_lines,
    is_stroke,
    least_area,
    stretched,
)

MAX_PIECES = 64  # components: a row has the largest ones
TALL = 0.5  # of the main component's height: a smaller one is a part of a digit, or a sign
SAME_ROW = 0.4  # of the lesser height: components of one row overlap by more
# of the length of its diagonal: a shorter stroke is straight, and may be a part of a 1, whose
# parts are closer than so much of the lesser height
STRAIGHT, BARS_CLOSE = 1.2, 0.5
STACKED, ABOVE = 0.6, 0.3  # of the lesser width and height: parts one above the other
# of the height of the row: no narrower shape is two digits, or three
CUT_WIDTH, THREE_WIDTH = 0.45, 1.5
# of the height of the row: the sides of a digit; and the pieces that it has at most
MAX_WIDTH, HEIGHTS, MAX_JOINED = 1.9, (0.45, 2.2), 25
MIN_INK = 0.3  # of the row's level: fainter ink is no stroke
MIN_PART = 0.12  # of the height of the row: what a cut leaves of a component is wider
SIGN_AREA = 0.6  # of the squared stroke width: a smaller mark beside digits is dirt
LARGE_SIGN = 3.0  # of the same: a larger mark is not dirt
SIGN_LEVEL = 0.5  # of the level of strokes: a fainter mark is dirt
SIGN_BELOW = 0.25  # of the row's height: how far a comma may lie below the row
SIGN_GAP = 0.15  # of the row's height: a mark in a digit's columns this close is its part
# of the row's height: a mark above this may be the bar of a 5, unless it is higher than so
# many times its width
BAR, BAR_ASPECT = 0.3, 0.85
FOOT = 0.08  # of the digit's height: the gap above the foot of a 2 or a 1 is narrower
IN_COLUMNS = 0.5  # of the lesser width: components that overlap by more are above each other

Key = tuple[int, ...]  # the labels of a segment's pieces


class Segment(NamedTuple):
    """Consecutive pieces of a row that may be one digit."""

    first: int  # of its pieces
    last: int  # exclusive
    key: Key
    box: morphology.Box
    height: float  # of the row's height, as width and gap are
    width: float
    gap: float  # the widest between its pieces
    crossed: float  # of its height: the ink of the cut at which it begins; 0 without one


class Sign(NamedTuple):
    """A mark beside digits that may be a sign, such as a point or a minus."""

    box: tuple[int, int, int, int]  # top, left, bottom, right
    piece: int  # its label if it may also be a part of a digit, else 0
    is_large: bool  # whether it is no dirt


@dataclass
class Row:
    """The ink of a row of digits, in pieces; arrays are (h, w).

    ink: in [0, 1]; label: 0 where there is no ink, else that of the piece; order: the
    labels from left to right; cut_off: the ink that a cut crosses, of each piece that
    begins at one; halves: those that were cut off a piece too narrow for three digits;
    height: of a usual digit, in pixels.
    """

    ink: Grey
    label: Ints
    order: list[int]
    cut_off: dict[int, float]
    halves: set[int]
    signs: list[Sign]
    height: float
    has_several_rows: bool

    def segments(self) -> Iterator[Segment]:
        """Yield what may be one digit."""
        boxes = self.boxes()
        low, high = HEIGHTS
        for first, start in enumerate(self.order):
            for last in range(first + 1, min(first + MAX_JOINED, len(boxes)) + 1):
                segment = self._segment(boxes, first, last)
                is_one = last == first + 1
                if segment.width > MAX_WIDTH * max(segment.height, 1) and not is_one:
                    break
                is_part = any(piece in self.cut_off for piece in self.order[first : first + 2])
                if is_part and not is_one and segment.width < MIN_PART:
                    continue
                if start in self.halves and not self.halves.isdisjoint(self.order[last : last + 1]):
                    continue
                if is_one or low <= segment.height <= high:
                    yield segment

    def whole(self) -> Segment:
        """Return all pieces as one segment."""
        return self._segment(self.boxes(), 0, len(self.order))

    def _segment(self, boxes: Ints, first: int, last: int) -> Segment:
        """Join consecutive pieces, of all whose boxes (n, 4) are given."""
        top, left = boxes[first:last, :2].min(0).tolist()
        bottom, right = boxes[first:last, 2:].max(0).tolist()
        gaps = boxes[first + 1 : last, 1] - np.maximum.accumulate(boxes[first : last - 1, 3])
        return Segment(
            first,
            last,
            tuple(self.order[first:last]),
            (slice(top, bottom), slice(left, right)),
            height=(bottom - top) / self.height,
            width=(right - left) / self.height,
            gap=float(gaps.max(initial=0)) / self.height,
            crossed=self.cut_off.get(self.order[first], 0.0),
        )

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

    def image(self, segment: Segment) -> npt.NDArray[np.uint8]:
        """Return a segment as an image (28, 28) like MNIST's; black if it is no stroke."""
        near = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in segment.box)
        label = self.label[near]
        is_of = np.zeros(int(label.max()) + 1, bool)
        is_of[[each for each in segment.key if each < len(is_of)]] = True
        mask = is_of[label]
        ink = self.ink[near] * (morphology.dilation(mask) & (mask | (label == 0)))
        if ink.max() < MIN_INK:
            return np.zeros(IMAGE_SIZE, np.uint8)
        box = morphology.bounding_box(ink > FAINT)
        if not is_stroke(mask[box]):
            return np.zeros(IMAGE_SIZE, np.uint8)
        return to_mnist_format(ink[box], mask[box])

    def without(self, segment: Segment, piece: int) -> Segment:
        """Return a segment of several pieces without one of them."""
        kept = [i for i in range(segment.first, segment.last) if self.order[i] != piece]
        boxes = self.boxes()[kept]
        (top, left), (bottom, right) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        key = tuple(self.order[i] for i in kept)
        return segment._replace(key=key, box=(slice(top, bottom), slice(left, right)))

    def box(self) -> morphology.Box:
        """Return the box around the pieces and the signs beside them."""
        boxes = np.concatenate([self.boxes(), *([sign.box] for sign in self.signs)])
        (top, left), (bottom, right) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
        return slice(top, bottom), slice(left, right)

    def cut(self, piece: int) -> Key:
        """Cut a piece wherever two digits may touch; return the new pieces."""
        box = morphology.bounding_box(self.label == piece)
        label = self.label[box]
        mask = label == piece
        if mask.shape[0] < HEIGHTS[0] * self.height or mask.shape[1] < CUT_WIDTH * self.height:
            return (piece,)
        right_of = np.zeros(mask.shape, np.intp)
        cuts = find_cuts(self.ink[box] * mask)
        for cut in cuts:
            right_of += np.arange(mask.shape[1]) >= cut.columns[:, np.newaxis]
        first = int(self.label.max()) + 1
        label[mask] = first + right_of[mask]
        new = np.unique(label[mask]).tolist()
        place = self.order.index(piece)
        self.order[place : place + 1] = new
        if mask.shape[1] < THREE_WIDTH * self.height:
            self.halves.update(new[1:])
        self.cut_off |= {each: cuts[each - first - 1].crossed for each in new[1:]}
        return tuple(new)


def select_row(marks: Marks, least: float = TALL) -> Row:
    """Select the components of one row of digits, without frames and specks.

    least: the least height of a digit, as a share of the main component's.
    """
    strokes, mask, parts = marks[:3]
    possible, main = _without_lines(*marks[2:])
    is_tall = possible & parts.are_digits_beside(main, least)
    possible = possible & ~_in_holes(marks, np.flatnonzero(is_tall))
    is_tall = is_tall & possible
    tall = _largest(parts, is_tall)
    width = morphology.stroke_width(morphology.select_runs(mask, parts.runs, is_tall[parts.label]))
    diagonal = np.hypot(parts.height, parts.width)
    is_bar = parts.area < STRAIGHT * width * diagonal
    has_several_rows = _are_rows(parts, tall, is_bar)
    # of smaller components, those near a tall one are its parts
    least = np.min([least_area(parts, i) for i in tall.tolist()], axis=0)
    small = _largest(parts, possible & ~is_tall & (parts.area >= least))
    chosen = np.concatenate([tall, small])[:MAX_PIECES]
    piece = np.zeros(len(parts.area), np.intp)
    piece[chosen] = 1 + np.arange(len(chosen))
    if not has_several_rows:
        piece[chosen] = 1 + _groups(chosen, lambda i, j: _are_stacked(parts, i, j, is_bar))
    label = np.zeros(mask.shape, np.intp)
    label[mask] = np.repeat(piece[parts.label], parts.runs.length)
    order = np.unique(piece[chosen]).tolist()
    ink = stretched(strokes.plane, strokes.floor, label > 0)
    signs = _find_signs(parts, possible & ~is_tall, ink[mask], tall, piece, width)
    row = Row(ink, label, order, {}, set(), signs, 1.0, has_several_rows)
    boxes = row.boxes()
    row.height = median((boxes[:, 2] - boxes[:, 0])[np.isin(order, piece[tall])])
    row.order = [order[i] for i in boxes[:, 1::2].sum(1).argsort()]
    return row


def _without_lines(parts: Components, possible: Mask, main: int) -> tuple[Mask, int]:
    """Return which components may be digits if a line below them is none, and the main one."""
    height = parts.height
    large = possible & (parts.size >= TALL * height[possible].max())
    above = above_lines(parts, large)
    if above is None:
        return possible, main
    n_tall = np.count_nonzero(above & (height >= TALL * height[above].max()))
    gap = parts.top[large & ~above].min() - parts.bottom[above].max()
    # a line close to a single digit may be its foot
    if n_tall < 2 and gap < FOOT * height[above].max():
        return possible, main
    return possible & (above | ~large), main if above[main] else int((parts.area * above).argmax())


def _find_signs(
    parts: Components, others: Mask, ink: Grey, tall: Ints, piece: Ints, width: float
) -> list[Sign]:
    """List other components than the tall ones that may be signs beside these.

    ink: of each pixel of the components, in reading order; piece: of each component, 0 for
    none; width: of strokes. As many marks outside the row are dirt, and so are those in it.
    """
    level = parts.mean(ink)
    area = parts.area / width**2
    found = np.flatnonzero(others & (area >= SIGN_AREA) & (level >= SIGN_LEVEL))
    height = median(parts.height[tall])
    top, bottom = parts.top[tall].min(), parts.bottom[tall].max()
    middle = (parts.top[found] + parts.bottom[found]) / 2
    is_flat = parts.height[found] < BAR_ASPECT * parts.width[found]
    lowest = np.where((piece[found] > 0) & is_flat, top + BAR * height, top)
    is_beside = (lowest <= middle) & (middle <= bottom + SIGN_BELOW * height)
    if np.count_nonzero(is_beside) <= np.count_nonzero(~is_beside & (piece[found] == 0)):
        return []
    i, j = found[is_beside, np.newaxis], tall
    gap = np.maximum(parts.top[i] - parts.bottom[j], parts.top[j] - parts.bottom[i])
    is_above = _overlap(parts.left, parts.right, i, j) > IN_COLUMNS
    is_part = is_above & ((gap < SIGN_GAP * height) | (piece[i] == piece[j]))
    return [
        Sign(
            (int(parts.top[k]), int(parts.left[k]), int(parts.bottom[k]), int(parts.right[k])),
            int(piece[k]),
            bool(area[k] >= LARGE_SIGN),
        )
        for k in found[is_beside][~is_part.any(axis=1)].tolist()
    ]


def _in_holes(marks: Marks, tall: Ints) -> Mask:
    """Return which components a tall one surrounds, such as the dot or the bar of a 0."""
    parts, possible = marks.parts, marks.possible
    result = np.zeros(len(possible), bool)
    for i in tall[:MAX_PIECES].tolist():
        within = possible & parts.are_inside(i)
        if not within.any():
            continue
        ring = morphology.select_runs(marks.mask, parts.runs, parts.label == i)
        for k in np.flatnonzero(within)[:MAX_PIECES].tolist():
            y, x = (parts.top[k] + parts.bottom[k]) // 2, (parts.left[k] + parts.right[k]) // 2
            sides = ring[:y, x], ring[y + 1 :, x], ring[y, :x], ring[y, x + 1 :]
            result[k] |= all(side.any() for side in sides)
    return result


def _largest(parts: Components, chosen: Mask) -> Ints:
    """List chosen components, MAX_PIECES at most, the largest first."""
    indices = np.flatnonzero(chosen)
    return indices[np.argsort(-parts.area[indices], kind="stable")][:MAX_PIECES]


def _are_rows(parts: Components, tall: Ints, is_bar: Mask) -> bool:
    """Return whether tall components are in more than one row; a bar is in none.

    Two that are close, one above the other, are parts of one digit.
    """
    is_flat = parts.height < FLAT * parts.width
    upright = tall[~is_flat[tall]]
    row = _groups(upright, lambda i, j: _overlap(parts.top, parts.bottom, i, j) > SAME_ROW)
    n_rows = len(set(row.tolist()))
    if n_rows == 2 == len(upright):
        return not _are_close(parts, upright[:1], upright[1:], is_bar)[0]
    return n_rows > 1


def _are_close(parts: Components, i: Ints, j: Ints, is_bar: Mask) -> Mask:
    """Return which components are so close that they may be parts of one digit.

    is_bar: which are straight strokes
    """
    height = parts.height
    limit = np.where(is_bar[i] & is_bar[j], BARS_CLOSE, CLOSE) * np.minimum(height[i], height[j])
    gaps = (
        np.maximum(start[i], start[j]) - np.minimum(end[i], end[j])
        for start, end in ((parts.top, parts.bottom), (parts.left, parts.right))
    )
    return np.logical_and(*(gap <= limit for gap in gaps))


def _overlap(start: Ints, end: Ints, i: Ints, j: Ints) -> npt.NDArray[np.float64]:
    """Return the overlap of components along one axis, of the lesser of their sides."""
    both = np.minimum(end[i], end[j]) - np.maximum(start[i], start[j])
    return both / np.minimum(end[i] - start[i], end[j] - start[j])


def _are_stacked(parts: Components, i: Ints, j: Ints, is_bar: Mask) -> Mask:
    """Return which components are one above the other, or where a stroke has a gap."""
    beside = _overlap(parts.left, parts.right, i, j)
    above = _overlap(parts.top, parts.bottom, i, j)
    is_flat = parts.height < FLAT * parts.width
    is_gap = _are_close(parts, i, j, is_bar) & ~is_flat[i] & ~is_flat[j]
    return (above < ABOVE) & ((beside > STACKED) | is_gap)


def _groups(chosen: Ints, are_joined: Callable[[Ints, Ints], Mask]) -> Ints:
    """Label n components by the groups that pairs of them form: (n,), from 0."""
    label = np.arange(len(chosen))
    joined = are_joined(chosen[:, np.newaxis], chosen)
    for i, j in zip(*np.nonzero(np.triu(joined, 1)), strict=True):
        label[label == label[j]] = label[i]
    return np.unique(label, return_inverse=True)[1]
