"""Selection of the components that form the digit, without borders and specks."""

import math
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.reading import morphology
from service.reading.binarise import Strokes
from service.reading.errors import MaybeRow, NoDigit
from service.reading.morphology import Grey, Ints, Mask
from service.reading.order_statistics import median, quantiles, within
from service.reading.ruled_lines import remove_ruled_lines

EDGE_BAND = 0.08  # of the shorter side: a frame lies within it
FRAME_INSIDE = 0.15  # of a component's area: a frame has less of it inside the band
# a printed box or a circle around the digit: its least size beside the largest component,
# the width of its rim in its size, and the most of its area that is inside the rim
BOX_SIZE, BOX_RIM, BOX_CORE = 0.6, 0.1, 0.12
# width over height of a circle, which a 0 rarely has; of its size, what a circle frames, and
# what a narrower ring does: the dot or the slash in a 0 is smaller
ROUND, FRAMED, FRAMED_NARROWLY = 0.8, 0.3, 0.5
# of the ring's stroke times its own diagonal: the area of a straight stroke, which may be
# the slash in a 0, is less
STRAIGHT = 1.25
MAX_BOXES = 64  # components that are checked for a box: more of one size are no boxes
MIN_FRAMED_SIDE = 24  # pixels: in less, a frame and a digit's strokes look the same
MIN_BESIDE_FRAMES = 0.01  # of the largest component's area: less is no digit
TOUCHING = 0.3  # weight of a component that touches the border of the picture
CENTRAL = 0.5  # part of its weight that a component loses per side length off centre
# (gap, area): the least area of another part of the digit beside the main component's,
# at a gap of less than so many of the main component's sizes
GAPS = ((0.3, 0.04), (0.8, 0.15), (np.inf, 0.5))
MIN_AREA = 2  # pixels of a component that counts
SPECK_SHARE = 0.25  # of the ink: a digit with less is a speck among specks
MANY = 12  # components: fewer specks are no noise

FAINT = 0.05  # ink fainter than this does not widen the digit's box
WHITE = 0.85  # quantile of the digit's ink that becomes white
MIN_PIXELS = 4  # of strokes
# of the ink's level: the most that the rest of the picture, of more than so many
# pixels, varies by at this quantile, one standard deviation of a normal variable
MAX_SPREAD, MIN_REST, ONE_SIGMA = 0.2, 16, 0.68
MAX_PLUMP = 0.42  # of the digit's size: the widest stroke
MAX_ASPECT = 4  # width over height
# width over height of a digit: a wider one may be two that touch; of the main component's
# height: a component beside it that is as tall may be another digit
WIDE, COMPANION = 0.6, 0.35
# of the lesser height: parts of one digit above each other are nearer; and how many are tall
CLOSE, MAX_TALL_PARTS = 0.2, 2
# components as tall as a digit: more are no row of digits, unless they cover less of the
# picture's height than so many times that of the main component
MAX_IN_ROW, ROW_SPREAD = 24, 2.5


FLAT = 0.4  # height over width: a flatter component, such as a bar or a line, is no digit
# a line below the digit: width over the digit's at least, and how far the digit reaches
# below its top, of the digit's height, at most
UNDERLINE, SUNK = 0.5, 0.1


class Doubt(Enum):
    """Why a picture may hold several digits."""

    NONE = "it shows one digit"
    SHAPE = "the digit is wide, or in parts side by side"
    OTHERS = "another component is as tall as the digit"


class Marks(NamedTuple):
    """The ink of a picture without ruled lines, in components; arrays are (h, w)."""

    strokes: Strokes  # with the lines
    mask: Mask
    parts: "Components"
    possible: Mask  # (n,): components that may be digits, or parts of one
    main: int  # the component that stands out


class Digit(NamedTuple):
    """A digit in a picture, and what it was selected from; arrays are (h, w)."""

    ink: Grey  # in [0, 1]
    mask: Mask  # of its strokes
    near: Mask  # the mask, dilated by one pixel, beyond which there is no ink
    marks: Marks
    doubt: Doubt
    without_line: "Digit | None"  # the same without a line below it, if there is one


def find_marks(strokes: Strokes) -> Marks:
    """Find the components of ink, without ruled lines, and the main one.

    Raises InvalidImage where there is no ink, or only lines or a frame.
    """
    mask = remove_ruled_lines(strokes.mask)
    if not mask.any():
        raise NoDigit("no ink stands out from the background")
    parts = Components(mask)
    return Marks(strokes, mask, parts, *_choose_main(parts, strokes.plane, mask))


def select_digit(strokes: Strokes) -> Digit:
    """Select the digit from the ink, without ruled lines, borders and specks.

    Its levels are stretched from black to white. Raises InvalidImage where there is no
    digit.
    """
    marks = find_marks(strokes)
    kept, doubt = digit_components(marks)
    digit = _digit(marks, kept, doubt)
    above = above_lines(marks.parts, kept)
    if above is None:
        return digit
    largest = int((marks.parts.area * above).argmax())
    doubt = _doubt(marks.parts, marks.possible, largest, above)
    return digit._replace(without_line=_digit(marks, above, doubt))


def _digit(marks: Marks, kept: Mask, doubt: Doubt) -> Digit:
    """Return the components that are kept (n,) as a digit."""
    mask = morphology.select_runs(marks.mask, marks.parts.runs, kept[marks.parts.label])
    near = morphology.dilation(mask)
    ink = stretched(marks.strokes.plane, marks.strokes.floor, mask) * near
    return Digit(ink, mask, near, marks, doubt, None)


def above_lines(parts: "Components", kept: Mask) -> Mask | None:
    """Return the kept components (n,) above all lines that underline them; None without a line."""
    if np.count_nonzero(kept) < 2:
        return None
    lowest = np.flatnonzero(kept)[np.argsort(-parts.bottom[kept], kind="stable")]
    above = kept.copy()
    for i in lowest[:-1].tolist():
        above[i] = False
        width, height = parts.right[i] - parts.left[i], parts.bottom[i] - parts.top[i]
        top, bottom = parts.top[above].min(), parts.bottom[above].max()
        others = parts.right[above].max() - parts.left[above].min()
        is_below = parts.top[i] >= bottom - SUNK * (bottom - top)
        if not (is_below and height < FLAT * width and width >= UNDERLINE * others):
            above[i] = True
            break
    return None if above.sum() == kept.sum() else above


def stretched(plane: Grey, black: float, mask: Mask) -> Grey:
    """Stretch ink (h, w) from black to the level of the strokes in a mask: [0, 1]."""
    (white,) = quantiles(plane[mask], WHITE)
    return ((plane - np.float32(black)) / np.float32(white - black)).clip(0, 1)


def refuse_other_shapes(digit: Digit) -> None:
    """Raise InvalidImage for a shape that no digit has, or one lost in texture."""
    n_pixels = np.count_nonzero(digit.mask)
    if n_pixels < MIN_PIXELS:
        raise NoDigit(f"the ink is a speck of {n_pixels} pixels")
    if _is_in_texture(digit):
        raise NoDigit("the background varies as much as the ink; use plain paper")
    mask = digit.mask[morphology.bounding_box(digit.mask)]
    height, width = mask.shape
    if morphology.stroke_width(mask) > MAX_PLUMP * max(height, width):
        raise NoDigit("the ink is a blob or a shadow, no stroke")
    if width > MAX_ASPECT * height:
        raise MaybeRow("the ink is a single horizontal line")


def _is_in_texture(digit: Digit) -> bool:
    """Return whether the rest of the picture varies as much as the digit's ink."""
    strokes, without_lines = digit.marks[:2]
    near = digit.near
    if without_lines is not strokes.mask:
        near = near | morphology.dilation(strokes.mask & ~without_lines)
    most = MAX_SPREAD * strokes.level
    # in most pictures, no pixel of the rest is so far from 0, and so none of their means
    if not ((np.abs(strokes.plane) > most / 2) & ~near).any():
        return False
    rest = within(morphology.smooth(strokes.plane), ~morphology.dilation(near))
    if len(rest) <= MIN_REST:
        return False
    (spread,) = quantiles(np.abs(rest - np.float32(median(rest))), ONE_SIGMA)
    return spread > most


def is_stroke(mask: Mask) -> bool:
    """Return whether a mask (h, w) is of a stroke: neither a speck nor a blob."""
    if np.count_nonzero(mask) < MIN_PIXELS:
        return False
    size = max(mask[morphology.bounding_box(mask)].shape)
    return morphology.stroke_width(mask) <= MAX_PLUMP * size


def digit_components(marks: Marks) -> tuple[Mask, Doubt]:
    """Return which components (n,) form the digit.

    Return also whether the components may be several digits. Raises InvalidImage where
    there are only specks.
    """
    parts, possible, main = marks[2:]
    kept = possible
    if len(possible) > 1:
        kept = possible & (parts.area >= np.maximum(least_area(parts, main), MIN_AREA))
        kept[main] = True
    total = parts.area[kept].sum()
    is_speck = parts.area[main] < max(MIN_AREA, SPECK_SHARE * total)
    is_noise = len(kept) > MANY and total < SPECK_SHARE * parts.area[possible].sum()
    if is_speck or is_noise:
        height = parts.bottom - parts.top
        tall = np.flatnonzero(possible & (height >= COMPANION * height[main]))
        spread = parts.bottom[tall].max() - parts.top[tall].min()
        is_row = len(tall) <= MAX_IN_ROW or spread <= ROW_SPREAD * height[main]
        refusal = MaybeRow if is_row else NoDigit
        raise refusal("the ink is only specks or noise")
    return kept, _doubt(parts, possible, main, kept)


class Components:
    """The connected components of a mask (h, w): the box and the area of each."""

    def __init__(self, mask: Mask) -> None:
        h, w = self.shape = mask.shape
        self.runs = runs = morphology.horizontal_runs(mask)
        self.label = morphology.label_runs(runs, w)
        self.area = self._sum(runs.length)
        sides = np.zeros((4, len(self.area)), np.intp)
        self.top, self.left, self.bottom, self.right = sides
        # of the values for one index, the last is assigned; runs are in reading order
        self.top[self.label[::-1]] = runs.row[::-1]
        self.bottom[self.label] = runs.row + 1
        self.left += w
        np.minimum.at(self.left, self.label, runs.start)
        np.maximum.at(self.right, self.label, runs.end)
        self.size = np.maximum(self.bottom - self.top, self.right - self.left)
        # whether each touches the border of the picture
        self.touches = (sides == [[0], [0], [h], [w]]).any(0)

    def _sum(self, values: Ints) -> Ints:
        """Sum the values of each component's runs."""
        return np.bincount(self.label, values).astype(np.intp)

    def mean(self, values: Grey) -> npt.NDArray[np.float64]:
        """Return the mean of values in each component: of its pixels, in reading order."""
        first = np.cumsum(self.runs.length) - self.runs.length
        return np.bincount(self.label, np.add.reduceat(values, first)) / self.area

    def are_inside(self, i: int) -> Mask:
        """Return which components lie inside the box of component i and off its sides."""
        are_inside: Mask = (self.top > self.top[i]) & (self.bottom < self.bottom[i])
        are_inside &= (self.left > self.left[i]) & (self.right < self.right[i])
        return are_inside

    def area_within(self, top: int, bottom: int, left: int, right: int) -> Ints:
        """Count the pixels of each component within a box whose ends are exclusive."""
        length = np.minimum(self.runs.end, right) - np.maximum(self.runs.start, left)
        inside = (self.runs.row >= top) & (self.runs.row < bottom)
        return self._sum(np.where(inside, np.maximum(length, 0), 0))

    def area_within_ellipse(self, top: int, bottom: int, left: int, right: int) -> Ints:
        """Count the pixels of each component within the ellipse that fills a box."""
        y = (2 * self.runs.row + 1 - top - bottom) / (bottom - top)
        half = np.sqrt(np.maximum(1 - y * y, 0)) * (right - left) / 2
        low, high = (left + right) / 2 - half, (left + right) / 2 + half
        length = np.minimum(self.runs.end, high) - np.maximum(self.runs.start, low)
        return self._sum(np.maximum(length, 0))


def _choose_main(parts: Components, plane: Grey, mask: Mask) -> tuple[Mask, int]:
    """Choose the main component of a mask, and which others may be digits or parts of one.

    plane: the ink, of the shape of the mask.
    """
    possible = _not_frames(parts)
    main = _main(parts, possible, plane, mask) if len(possible) > 1 else 0
    return possible if parts.touches[main] else possible & ~parts.touches, main


def _doubt(parts: Components, possible: Mask, main: int, kept: Mask) -> Doubt:
    """Return whether the kept components, or others beside the main one, may be digits."""
    height = parts.bottom - parts.top
    if len(kept) == 1:
        is_wide = parts.right[0] - parts.left[0] > WIDE * height[0]
        return Doubt.SHAPE if is_wide else Doubt.NONE
    width = parts.right[kept].max() - parts.left[kept].min()
    is_wide = width > WIDE * (parts.bottom[kept].max() - parts.top[kept].min())
    beside = np.minimum(parts.right, parts.right[main]) - np.maximum(parts.left, parts.left[main])
    narrower = np.minimum(parts.right - parts.left, parts.right[main] - parts.left[main])
    above = np.maximum(parts.top - parts.bottom[main], parts.top[main] - parts.bottom)
    tall = possible & (height >= COMPANION * height[main])
    # parts of one digit are two at most, and close to each other
    is_apart = above > CLOSE * np.minimum(height, height[main])
    is_apart |= np.count_nonzero(tall) > MAX_TALL_PARTS
    others = tall & (beside < narrower / 2)
    is_below = tall & (beside >= narrower / 2) & is_apart
    is_below[main] = False
    if (others & ~kept).any() or is_below.any():
        return Doubt.OTHERS
    return Doubt.SHAPE if is_wide or others.any() else Doubt.NONE


def _not_frames(parts: Components) -> Mask:
    """Return which components are neither frames at the border nor printed boxes."""
    h, w = parts.shape
    result = np.ones(len(parts.area), bool)
    if parts.touches.any():
        band = max(1, round(EDGE_BAND * min(h, w)))
        inside = parts.area_within(band, h - band, band, w - band)
        result = ~((inside < FRAME_INSIDE * parts.area) & parts.touches)
    elif len(result) == 1:
        return result
    large = parts.size >= BOX_SIZE * parts.size.max()
    largest = np.argsort(-parts.size, kind="stable")[:MAX_BOXES]
    for i in largest[large[largest]] if len(large) > 1 else ():
        rim = max(1, round(BOX_RIM * parts.size[i]))
        top, bottom = parts.top[i], parts.bottom[i]
        left, right = parts.left[i], parts.right[i]
        core = top + rim, bottom - rim, left + rim, right - rim
        within = parts.are_inside(i) & (parts.area > BOX_CORE * parts.area[i])
        if not within.any():
            continue
        least = BOX_CORE * parts.area[i]
        is_box = parts.area_within(*core)[i] < least
        is_round = right - left >= ROUND * (bottom - top)
        framed = parts.size[i] * (FRAMED if is_round else FRAMED_NARROWLY)
        pen = parts.area[i] / (math.pi / 2 * (right - left + bottom - top))
        diagonal = np.hypot(parts.right - parts.left, parts.bottom - parts.top)
        is_bar = parts.area < STRAIGHT * pen * diagonal
        is_framed = within & (parts.size >= framed) & ~is_bar
        if is_box or (is_framed.any() and parts.area_within_ellipse(*core)[i] < least):
            result[i] = False
    least = max(MIN_AREA, MIN_BESIDE_FRAMES * parts.area.max())
    if (parts.area * result).max() >= least:
        return result
    if min(h, w) >= MIN_FRAMED_SIDE:
        raise NoDigit("the ink is only a frame")
    return np.ones_like(result)


def _main(parts: Components, possible: Mask, plane: Grey, mask: Mask) -> int:
    """Choose the component that is largest, strongest and closest to the centre."""
    h, w = parts.shape
    y = (parts.top + parts.bottom) / 2 / h - 0.5
    x = (parts.left + parts.right) / 2 / w - 0.5
    score = parts.area * parts.mean(plane[mask]) ** 2 * (1 - CENTRAL * np.hypot(y, x))
    return int((score * np.where(parts.touches, TOUCHING, 1) * possible).argmax())


def least_area(parts: Components, main: int) -> npt.NDArray[np.float64]:
    """Return the least area at which each component, by its gap, is of the digit."""
    gap_y = np.maximum(parts.top - parts.bottom[main], parts.top[main] - parts.bottom)
    gap_x = np.maximum(parts.left - parts.right[main], parts.left[main] - parts.right)
    gap = np.hypot(np.maximum(gap_y, 0), np.maximum(gap_x, 0)) / parts.size[main]
    shares = np.select([gap < limit for limit, _ in GAPS], [share for _, share in GAPS])
    return shares * parts.area[main]
