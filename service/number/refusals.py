"""Refusals of what is hardly a number, or not one digit."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from service.classifier import Classifier, Floats
from service.images import InvalidImage, find_rows
from service.number.search import LEAST, NO_PATH, Path, Scored, log_likelihood, scored, segment
from service.reading.errors import SeveralDigits, UnlikeDigits
from service.reading.row import TALL, Row, Sign, select_row
from service.reading.scale import View, view_of
from service.reading.segmentation import COMPANION, Marks

MAX_DIGITS = 20
NEEDLESS = 0.1  # of the score: a digit that loses no more without a mark does not need it
LIKELY = 0.5  # the least probability of several digits, and of each, to refuse them as one
MIN_LOG_RATIO = 0.7  # the logarithm of how much likelier one digit must be than several
# The logistic regression that a wide shape is several digits, not one: the weights of the ink
# that their cuts cross, of the logarithm of their likelihood and of its ratio to that of one,
# of the score of one, of a segmentation into two or more, and the bias. They were fitted to
# MNIST's validation rows; `python -m benchmarks.several` compares them with a new fit.
SEVERAL_WEIGHTS = np.array([23.25, -0.17, 0.68, -2.09, -2.01, 1.62])
LEAST_LOG, MOST_CROSSED = -20.0, 0.1  # what is beyond counts as these
# the least probability of a number, and of one whose digits were cut apart
CLEAR, CLEAR_CUT = 0.05, 0.55
UNCLEAR = "the digits of the number are not clear; leave a gap between them"
MORE = f"the number has more than {MAX_DIGITS} digits; send parts of it"
SIGN = "a mark beside the digits, such as a minus sign, is not a digit; send only the digits"
ROWS = "the picture holds several rows of digits; send one row"


def refuse_unclear(path: Path, signs: list[Sign], classifier: Classifier) -> None:
    """Raise InvalidImage for a segmentation that is hardly a number."""
    if any(sign.is_large for sign in signs):
        raise InvalidImage(SIGN)
    least = classifier.detector.threshold if classifier.detector else LEAST
    unlike = [digit.is_digit for digit in path.digits if digit.is_digit < least]
    if unlike or not path.digits:
        raise UnlikeDigits(unlike)
    if len(path.digits) > MAX_DIGITS:
        raise InvalidImage(MORE)
    has_cut = any(each.crossed > 0 for each in path.segments)
    if path.probability < (CLEAR_CUT if has_cut else CLEAR):
        raise InvalidImage(UNCLEAR)


def read_row(view: View, classifier: Classifier, least: float = TALL) -> tuple[Row, View, Path]:
    """Read the row of digits in the innermost plate, or a longer one around it.

    least: the least height of a digit, as a share of the main component's. Return the row with the
    view at whose working size its arrays are. The path is empty for several rows. Raises
    InvalidImage where there is no ink.
    """
    rows = find_rows(view, least)
    row, within = next(rows)
    path = _path(row, classifier)
    for wider, around in rows:
        # two cells of a longer row look like a plate
        n = _n_clear(row, path, classifier)
        if not n:
            break
        longer = _path(wider, classifier)
        if _n_clear(wider, longer, classifier) <= n:
            break
        row, within, path = wider, around, longer
    return row, within, path


def _path(row: Row, classifier: Classifier) -> Path:
    """Return the likeliest segmentation of a row, an empty one of several rows."""
    return NO_PATH if row.has_several_rows else segment(row, classifier)


def _n_clear(row: Row, path: Path, classifier: Classifier) -> int:
    """Count the digits of a row but for 1s, as sides of frames are read; 0 if it is unclear."""
    try:
        refuse_unclear(path, signs_beside(row, path, classifier), classifier)
    except InvalidImage:
        return 0
    return sum(not digit.is_one for digit in path.digits)


def signs_beside(row: Row, path: Path, classifier: Classifier) -> list[Sign]:
    """List the signs that belong to no digit: without them, the digit is read as clearly."""
    joined = [
        (sign, row.without(segment, sign.piece), digit)
        for segment, digit in zip(path.segments, path.digits, strict=True)
        for sign in row.signs
        if sign.piece in segment.key and len(segment.key) > 1
    ]
    signs = [sign for sign in row.signs if not sign.piece]
    if joined:
        images = np.stack([row.image(segment) for _, segment, _ in joined])
        without = scored(images, classifier.score(images), classifier)
        signs += [
            sign
            for each, (sign, _, digit) in zip(without, joined, strict=True)
            if each.score >= max(LIKELY, digit.score - NEEDLESS)
        ]
    return signs


def refuse_several(
    picture: Image.Image, marks: Marks | None, classifier: Classifier, alone: Sequence[Scored] = ()
) -> bool:
    """Raise InvalidImage if a picture is likely to hold more than one digit.

    marks: what was found in it, if it shows all digits; alone: the same as one digit.
    Return whether it may hold several that are not clear.
    """
    try:
        if marks:
            row = select_row(marks, COMPANION)
            path = _path(row, classifier)
        else:
            row, _, path = read_row(view_of(picture), classifier, COMPANION)
    except InvalidImage:
        return False
    if row.has_several_rows:
        return _refuse_rows(row, classifier)
    if not _are_likelier(path, row, alone):
        return False
    n_digits = sum(digit.score >= LIKELY for digit in path.digits)
    if n_digits < 2:
        return True
    refuse_unclear(path, signs_beside(row, path, classifier), classifier)
    raise SeveralDigits(n_digits)


def _are_likelier(path: Path, row: Row, alone: Sequence[Scored]) -> bool:
    """Return whether a row is likelier to be several digits than one.

    alone: the whole row as one digit, first as it is
    """
    if not alone:
        return path.several >= path.alone - MIN_LOG_RATIO
    return bool(SEVERAL_WEIGHTS @ evidence_of_several(path, row, alone) > 0)


def evidence_of_several(path: Path, row: Row, alone: Sequence[Scored]) -> Floats:
    """Return what SEVERAL_WEIGHTS weigh, float64 (6,)."""
    whole = row.whole()
    one = max(path.alone, *(log_likelihood(each, whole.height, whole.width) for each in alone))
    crossed = min(max((each.crossed for each in path.segments), default=0.0), MOST_CROSSED)
    logs = np.maximum([path.several, path.several - one], LEAST_LOG)
    return np.array([crossed, *logs, alone[0].score, len(path.digits) > 1, 1])


def _refuse_rows(row: Row, classifier: Classifier) -> bool:
    """Raise InvalidImage if several rows hold more than one digit; else return False."""
    pieces = [each for each in row.segments() if len(each.key) == 1]
    images = np.stack([row.image(each) for each in pieces])
    digits = scored(images, classifier.score(images), classifier)
    if sum(each.score >= LIKELY for each in digits) > 1:
        raise InvalidImage(ROWS)
    return False
