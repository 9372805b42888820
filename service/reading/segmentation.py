"""Selection of the components that form the digit, without borders and specks."""

import contextlib
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.reading import morphology
from service.reading.binarise import Strokes
from service.reading.components import MIN_AREA, Components
from service.reading.errors import InvalidImage, MaybeRow, NoDigit
from service.reading.frames import not_fingers, not_frames
from service.reading.morphology import Grey, Mask
from service.reading.order_statistics import median, quantiles, within
from service.reading.ruled_lines import find_lines, remove_ruled_lines

TOUCHING = 0.3  # weight of a component that touches the border of the picture
CENTRAL = 0.5  # part of its weight that a component loses per side length off centre
# (gap, area): the least area of another part of the digit beside the main component's,
# at a gap of less than so many of the main component's sizes
GAPS = ((0.3, 0.04), (0.8, 0.15), (np.inf, 0.5))
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
# a digit that touches such a line: width over height of both at least, and the digit's height
# over that of both
ON_LINE, OFF_LINE = 1.5, 0.6
# of the height of the digit: letters are lower; of their own height: how far the middles of
# others are off it in one line, and how long a word is, in letters or as one component; of
# the digit's height: how far letters reach into its box at most, and how far off it those
# that touch each other are at least
LETTER, IN_LINE, WORD, INTO, OFF = 0.5, 0.2, 3, 0.1, 0.4


class Doubt(Enum):
    """Why a picture may hold several digits."""

    NONE = "it shows one digit"
    SHAPE = "the digit is wide, or in parts side by side"
    OTHERS = "another component is as tall as the digit"


class Marks(NamedTuple):
    """The ink of a picture without ruled lines, in components; arrays are (h, w)."""

    strokes: Strokes  # with the lines
    mask: Mask
    parts: Components
    possible: Mask  # (n,): components that may be digits, or parts of one
    main: int  # the component that stands out


class Digit(NamedTuple):
    """A digit in a picture, and what it was selected from; arrays are (h, w)."""

    ink: Grey  # in [0, 1]
    mask: Mask  # of its strokes
    near: Mask  # the mask, dilated by one pixel, beyond which there is no ink
    marks: Marks
    doubt: Doubt
    alone: "Digit | None"  # the same without words and a line below it, if there are any


def find_marks(strokes: Strokes) -> Marks:
    """Find the components of ink, without ruled lines, and the main one.

    Raises InvalidImage where there is no ink, or only lines or a frame.
    """
    mask = remove_ruled_lines(strokes.mask)
    if not mask.any():
        raise NoDigit("no ink stands out from the background")
    return _marks_of(strokes, mask)


def _marks_of(strokes: Strokes, mask: Mask) -> Marks:
    """Return the components of a mask (h, w) that has some ink, and the main one."""
    parts = Components(mask)
    return Marks(strokes, mask, parts, *_choose_main(parts, strokes.plane, mask))


def select_digit(strokes: Strokes) -> Digit:
    """Select the digit from the ink, without ruled lines, borders and specks.

    Its levels are stretched from black to white. Raises InvalidImage where there is no
    digit.
    """
    marks = find_marks(strokes)
    digit = _select(marks)
    with contextlib.suppress(InvalidImage):
        off_line = _off_line(marks)
        if off_line is not None:
            alone = _select(off_line)
            return digit._replace(alone=alone.alone or alone)
    return digit


def _select(marks: Marks) -> Digit:
    """Select the digit from components."""
    kept, doubt = digit_components(marks)
    digit = _digit(marks, kept, doubt)
    alone = kept & ~_words(marks.parts, marks.possible, marks.main, kept)
    above = above_lines(marks.parts, alone)
    alone = alone if above is None else above
    if alone.sum() == kept.sum():
        return digit
    largest = int((marks.parts.area * alone).argmax())
    doubt = _doubt(marks.parts, marks.possible, largest, alone)
    return digit._replace(alone=_digit(marks, alone, doubt))


def _digit(marks: Marks, kept: Mask, doubt: Doubt) -> Digit:
    """Return the components that are kept (n,) as a digit."""
    mask = morphology.select_runs(marks.mask, marks.parts.runs, kept[marks.parts.label])
    near = morphology.dilation(mask)
    ink = stretched(marks.strokes.plane, marks.strokes.floor, mask) * near
    return Digit(ink, mask, near, marks, doubt, None)


def _off_line(marks: Marks) -> Marks | None:
    """Return the ink without a line that the main component stands on; None without one."""
    top, bottom, left, right = marks.parts.box(marks.main)
    if right - left < ON_LINE * (bottom - top):
        return None
    box = (slice(top, bottom), slice(left, right))
    lines = find_lines(marks.mask[box])
    if lines is None or np.array_equal(lines, marks.mask[box]):
        return None
    mask = marks.mask.copy()
    mask[box] &= ~lines
    rest = _marks_of(marks.strokes, mask)
    return rest if rest.parts.height[rest.main] >= OFF_LINE * (bottom - top) else None


def above_lines(parts: Components, kept: Mask) -> Mask | None:
    """Return the kept components (n,) above all lines that underline them; None without a line."""
    if np.count_nonzero(kept) < 2:
        return None
    lowest = np.flatnonzero(kept)[np.argsort(-parts.bottom[kept], kind="stable")]
    above = kept.copy()
    for i in lowest[:-1].tolist():
        above[i] = False
        width, height = parts.width[i], parts.height[i]
        top, bottom = parts.top[above].min(), parts.bottom[above].max()
        others = parts.right[above].max() - parts.left[above].min()
        is_below = parts.top[i] >= bottom - SUNK * (bottom - top)
        if not (is_below and height < FLAT * width and width >= UNDERLINE * others):
            above[i] = True
            break
    return None if above.sum() == kept.sum() else above


def _words(parts: Components, possible: Mask, main: int, kept: Mask) -> Mask:
    """Return which components (n,) are in a line of letters or dots beside the main one.

    They are not looked for if all that are kept are tall.
    """
    height, width = parts.height, parts.width
    result = np.zeros_like(kept)
    is_small = possible & (parts.area >= MIN_AREA) & (height < LETTER * height[main])
    if not (is_small & kept).any():
        return result
    above, beside = parts.gaps(main)
    small = np.flatnonzero(is_small & ((above >= -INTO * height[main]) | (beside >= 0)))
    middle = (parts.top[small] + parts.bottom[small]) / 2
    order = middle.argsort()
    slack = IN_LINE * height[small]
    first = np.searchsorted(middle[order], parts.top[small] - slack)
    last = np.searchsorted(middle[order], parts.bottom[small] + slack)
    # letters that touch are one component
    is_off = np.maximum(above, beside)[small] > OFF * height[main]
    is_word = is_off & (width[small] >= WORD * height[small])
    is_word |= last - first >= WORD
    # a word covers all in its line, such as the dot of an i
    ends = np.bincount(last[is_word], minlength=len(small) + 1)
    covers = (np.bincount(first[is_word], minlength=len(small) + 1) - ends).cumsum()[:-1]
    result[small[order[covers > 0]]] = True
    return result


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
    # a line below a digit may have more ink
    above = above_lines(parts, kept)
    rest = total if above is None else parts.area[above].sum()
    is_speck = parts.area[main] < max(MIN_AREA, SPECK_SHARE * rest)
    is_noise = len(kept) > MANY and total < SPECK_SHARE * parts.area[possible].sum()
    if is_speck or is_noise:
        tall = np.flatnonzero(possible & (parts.height >= COMPANION * parts.height[main]))
        spread = parts.bottom[tall].max() - parts.top[tall].min()
        is_row = len(tall) <= MAX_IN_ROW or spread <= ROW_SPREAD * parts.height[main]
        refusal = MaybeRow if is_row else NoDigit
        raise refusal("the ink is only specks or noise")
    return kept, _doubt(parts, possible, main, kept)


def _choose_main(parts: Components, plane: Grey, mask: Mask) -> tuple[Mask, int]:
    """Choose the main component of a mask, and which others may be digits or parts of one.

    plane: the ink, of the shape of the mask.
    """
    possible = not_fingers(parts, not_frames(parts))
    main = _main(parts, possible, plane, mask) if len(possible) > 1 else 0
    return possible if parts.touches[main] else possible & ~parts.touches, main


def _doubt(parts: Components, possible: Mask, main: int, kept: Mask) -> Doubt:
    """Return whether the kept components, or others beside the main one, may be digits."""
    height, width = parts.height, parts.width
    if len(kept) == 1:
        return Doubt.SHAPE if width[0] > WIDE * height[0] else Doubt.NONE
    breadth = parts.right[kept].max() - parts.left[kept].min()
    is_wide = breadth > WIDE * (parts.bottom[kept].max() - parts.top[kept].min())
    above, apart = parts.gaps(main)
    is_beside = -apart < np.minimum(width, width[main]) / 2
    tall = possible & parts.are_digits_beside(main, COMPANION)
    # parts of one digit are two at most, and close to each other
    is_apart = above > CLOSE * np.minimum(height, height[main])
    is_apart |= np.count_nonzero(tall) > MAX_TALL_PARTS
    others = tall & is_beside
    is_below = tall & ~is_beside & is_apart
    is_below[main] = False
    if (others & ~kept).any() or is_below.any():
        return Doubt.OTHERS
    return Doubt.SHAPE if is_wide or others.any() else Doubt.NONE


def _main(parts: Components, possible: Mask, plane: Grey, mask: Mask) -> int:
    """Choose the component that is largest, strongest and closest to the centre."""
    h, w = parts.shape
    y = (parts.top + parts.bottom) / 2 / h - 0.5
    x = (parts.left + parts.right) / 2 / w - 0.5
    score = parts.area * parts.mean(plane[mask]) ** 2 * (1 - CENTRAL * np.hypot(y, x))
    return int((score * np.where(parts.touches, TOUCHING, 1) * possible).argmax())


def least_area(parts: Components, main: int) -> npt.NDArray[np.float64]:
    """Return the least area at which each component, by its gap, is of the digit."""
    gap = np.hypot(*(np.maximum(each, 0) for each in parts.gaps(main))) / parts.size[main]
    shares = np.select([gap < limit for limit, _ in GAPS], [share for _, share in GAPS])
    return shares * parts.area[main]
