"""Reading of pictures of numbers: rows of digits."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import Images
from service.images import InvalidImage
from service.number.refusals import CLEAR, ROWS, UNCLEAR, read_row, refuse_unclear, signs_beside
from service.number.search import Path, scored
from service.reading.bars import may_be_sign
from service.reading.decode import MAX_PIXELS, decode, upright_size
from service.reading.errors import UnlikeDigits
from service.reading.mnist_format import is_mnist_shaped
from service.reading.morphology import bounding_box
from service.reading.row import Segment
from service.reading.scale import Corners, view_of

AMBIGUOUS = 0.5  # the probability that a point is dirt, or that a stroke is a 1, no slash
# of the height of the row: a lower segment, whose bottom is so far above that of others,
# may be a degree sign or an apostrophe
SMALL, RAISED = 0.7, 0.4


class DigitAt(NamedTuple):
    """A digit of a number."""

    image: Images  # (28, 28), as the model sees it
    box: tuple[int, int, int, int]  # x, y, width, height in pixels of the upright upload
    probabilities: npt.NDArray[np.float64]  # (K,)
    is_digit: float | None  # None without a detector


class Number(NamedTuple):
    """The digits of a number from left to right, and the probability that all are right."""

    digits: list[DigitAt]
    probability: float


def read_number(upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS) -> Number:
    """Read one upload as a number: a row of 1 to MAX_DIGITS digits.

    Raises what read_image raises, and InvalidImage for several rows, for more digits, for a
    sign beside them, for digits that are not clear, and for ink that looks like none.
    """
    whole = view_of(decode(upload, max_pixels))
    if is_mnist_shaped(whole.levels):
        return _one_digit(whole.levels, classifier)
    row, view, path = read_row(whole, classifier)
    if row.has_several_rows:
        raise InvalidImage(ROWS)
    signs = signs_beside(row, path, classifier)
    refuse_unclear(path, signs, classifier)
    size = upright_size(upload)
    digits = [
        DigitAt(
            digit.image,
            _pixels(view.at_working_size(each.box) * size),
            digit.probabilities,
            digit.is_digit if classifier.detector else None,
        )
        for digit, each in zip(path.digits, path.segments, strict=True)
    ]
    is_raised = _is_any_raised(path.segments, row.height)
    is_ambiguous = bool(signs) or is_raised or _may_have_signs(path)
    return Number(digits, path.probability * (AMBIGUOUS if is_ambiguous else 1))


def _may_have_signs(path: Path) -> bool:
    """Return whether one of several digits may be a slash or a bracket."""
    last = len(path.digits) - 1
    return last > 0 and any(
        digit.is_one and may_be_sign(digit.image, each.height, 0 < i < last)
        for i, (digit, each) in enumerate(zip(path.digits, path.segments, strict=True))
    )


def _is_any_raised(segments: list[Segment], height: float) -> bool:
    """Return whether a segment may be a small mark in the upper half of the row.

    height: of the row, in pixels.
    """
    heights = np.array([each.height for each in segments])
    bottom = np.array([each.box[0].stop for each in segments]) / height
    is_small = heights < min(SMALL, heights.max())
    return bool((is_small & (np.median(bottom[~is_small]) - bottom > RAISED)).any())


def _pixels(corners: Corners) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the box around corners (4, 2), in whole pixels."""
    (left, top), (right, bottom) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    return int(left), int(top), int(right - left), int(bottom - top)


def _one_digit(image: Images, classifier: Classifier) -> Number:
    """Return the number of one digit in an MNIST-shaped picture.

    Raises InvalidImage if it hardly looks like a digit.
    """
    scores = classifier.score(image[np.newaxis])
    (one,) = scored(image[np.newaxis], scores, classifier)
    if classifier.refused(scores):
        raise UnlikeDigits([one.is_digit])
    if one.score < CLEAR:
        raise InvalidImage(UNCLEAR)
    rows, columns = bounding_box(image > 0)
    box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
    is_digit = one.is_digit if classifier.detector else None
    return Number([DigitAt(image, box, one.probabilities, is_digit)], one.score)
