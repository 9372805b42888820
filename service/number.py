"""Numbers: the segmentation of a row of digits that the model finds the likeliest."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.classifier import Classifier, Scores
from service.features import Images
from service.images import InvalidImage, find_row, to_image
from service.reading.decode import MAX_PIXELS, decode, upright_size
from service.reading.errors import MaybeRow, NoDigit, SeveralDigits
from service.reading.mnist_format import is_mnist_shaped
from service.reading.morphology import bounding_box
from service.reading.row import Key, Row, Segment, select_row
from service.reading.scale import Corners, levels_of
from service.reading.segmentation import Doubt, Marks
from service.reading.stages import Show, ignore

MAX_DIGITS = 20
# images that are scored for one picture before cuts, and after them; segments that are
# cut: a picture with more unlikely ones is no number
MAX_SEGMENTS, MAX_CUT = 200, 6
BLOCK = 32  # images scored at once
SURE, SURE_ALONE = 0.98, 0.96  # the score at which a segment, or a picture, is one digit
WIDE = 0.95  # of the height of the row: a segment that is wider may be two digits for all that
# The likelihood of a segment, chosen on numbers of MNIST's validation rows: the weight of
# the detector's log odds, and those of a segment that is as likely a digit as not; what a
# cut loses; what a gap within a digit loses, per height of the row
DETECTOR_WEIGHT, NEUTRAL, CUT_LOSS, GAP_LOSS = 0.5, 3.0, 1.0, 3.0
# a digit's width but for a 1's, of the row's height; the standard deviations of the
# logarithms of its height and width; a 1 is no wider than others, and may be narrower
WIDTH, HEIGHT_SPREAD, WIDTH_SPREAD = 0.75, 0.25, 0.4
LEAST = 1e-3  # probabilities closer to 0, and P(digit) closer to 1, count as this
LIKELY = 0.5  # the least probability of several digits, and of each, to refuse them as one
UNLIKELY = 0.02  # P(digit) below which a wide shape is refused: it may be several that touch
# the least probability of a number, and of one whose digits were cut apart
CLEAR, CLEAR_CUT = 0.05, 0.55
UNLIKE = "a part of the number does not look like a digit"
UNCLEAR = "the digits of the number are not clear; leave a gap between them"
WIDE_SHAPE = "the shape is hardly one digit; if it holds several, leave a gap between them"
MORE = f"the number has more than {MAX_DIGITS} digits"
ROWS = "the picture holds several rows of digits; send one row"


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


class Scored(NamedTuple):
    """A segment as an image (28, 28), and what the model says of it."""

    image: Images
    probabilities: npt.NDArray[np.float64]  # (K,)
    is_digit: float  # without a detector, the class's probability; 0 for a blob
    is_one: bool  # whether it is read as a 1

    @property
    def digit(self) -> int:
        """The index of the likeliest class."""
        return int(self.probabilities.argmax())

    @property
    def score(self) -> float:
        """The probability that the segment is the digit that it seems to be."""
        return float(self.probabilities.max()) * self.is_digit


Segments = dict[Key, Scored]


class Path(NamedTuple):
    """The likeliest segmentation of a row, and shares of the likelihood of all."""

    segments: list[Segment]
    digits: list[Scored]
    share: float  # of the segmentations that read the same
    several: float  # of those of several digits

    @property
    def probability(self) -> float:
        """The probability that all digits are right."""
        return self.share * math.prod(digit.score for digit in self.digits)


def read_number(upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS) -> Number:
    """Read one upload as a number: a row of 1 to MAX_DIGITS digits.

    Raises what read_image raises, and NoDigit for several rows, for more digits, and
    for ink that does not look like digits.
    """
    picture = decode(upload, max_pixels)
    levels = levels_of(picture)
    if is_mnist_shaped(levels):
        return _one_digit(levels, classifier)
    row, view = find_row(picture)
    if row.has_several_rows:
        raise NoDigit(ROWS)
    path = segment(row, classifier)
    _refuse_unclear(path, classifier)
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
    return Number(digits, path.probability)


def _refuse_unclear(path: Path, classifier: Classifier) -> None:
    """Raise NoDigit for a segmentation that is hardly a number."""
    least = classifier.detector.threshold if classifier.detector else LEAST
    if any(digit.is_digit < least for digit in path.digits):
        raise NoDigit(UNLIKE)
    if len(path.digits) > MAX_DIGITS:
        raise NoDigit(MORE)
    has_cut = any(each.crossed > 0 for each in path.segments)
    if path.probability < (CLEAR_CUT if has_cut else CLEAR):
        raise NoDigit(UNCLEAR)


def _pixels(corners: Corners) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the box around corners (4, 2), in whole pixels."""
    (left, top), (right, bottom) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    return int(left), int(top), int(right - left), int(bottom - top)


def _one_digit(image: Images, classifier: Classifier) -> Number:
    """Return the number of one digit in an MNIST-shaped picture."""
    scores = classifier.score(image[np.newaxis])
    rows, columns = bounding_box(image > 0)
    corners = (columns.start, rows.start, columns.stop, rows.stop)
    left, top, right, bottom = map(int, corners)
    box = (left, top, right - left, bottom - top)
    is_digit = None if scores.is_digit is None else float(scores.is_digit[0])
    digit = DigitAt(image, box, scores.probabilities[0], is_digit)
    return Number([digit], _score_of(scores))


def read_one(
    upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS, show: Show = ignore
) -> Images:
    """Read one upload of one digit as an image (28, 28), as read_image does.

    Raises also SeveralDigits.
    """
    return read_with_scores(upload, classifier, max_pixels, show)[0]


def read_with_scores(
    upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS, show: Show = ignore
) -> tuple[Images, Scores | None]:
    """Read one upload as read_one does, and return its scores too if they had to be known."""
    picture = decode(upload, max_pixels)
    show("decoded", picture)
    try:
        image, found = to_image(picture, show)
    except MaybeRow:
        _refuse_several(picture, None, classifier)
        raise
    scores = None
    if found and found.doubt == Doubt.OTHERS:
        _refuse_several(picture, found.marks, classifier)
    if found and found.image_without_line is not None:
        image, scores = _likelier(image, found.image_without_line, classifier)
    if found and found.doubt == Doubt.SHAPE:
        scores = scores or classifier.score(image[np.newaxis])
        _refuse_wide(picture, scores, found.marks, classifier)
    show("28x28", image)
    return image, scores


def _refuse_wide(
    picture: Image.Image, scores: Scores, marks: Marks | None, classifier: Classifier
) -> None:
    """Raise InvalidImage if a wide shape with scores (1,) may be several digits.

    One that the classifier refuses is left to it: it says how unlike a digit the shape is.
    """
    if _score_of(scores) >= SURE_ALONE:
        return
    _refuse_several(picture, marks, classifier)
    is_unlikely = scores.is_digit is not None and scores.is_digit[0] < UNLIKELY
    if is_unlikely and not classifier.refused(scores):
        raise NoDigit(WIDE_SHAPE)


def _likelier(image: Images, other: Images, classifier: Classifier) -> tuple[Images, Scores]:
    """Return an image, or another reading of it that is likelier a digit, with its scores (1,)."""
    scores = classifier.score(image[np.newaxis])
    if _score_of(scores) >= SURE_ALONE:
        return image, scores
    others = classifier.score(other[np.newaxis])
    return (other, others) if _score_of(others) > _score_of(scores) else (image, scores)


def _score_of(scores: Scores) -> float:
    """Return the probability of a single image's class, if it is a digit, and that it is one."""
    p = 1.0 if scores.is_digit is None else float(scores.is_digit[0])
    return float(scores.probabilities.max()) * p


def _refuse_several(picture: Image.Image, marks: Marks | None, classifier: Classifier) -> None:
    """Raise InvalidImage if a picture is likely to hold more than one digit.

    marks: what was found in it, if it shows all digits.
    """
    try:
        row = select_row(marks) if marks else find_row(picture)[0]
        path = segment(row, classifier)
    except InvalidImage:
        return
    n_digits = sum(digit.score >= LIKELY for digit in path.digits)
    if n_digits < 2 or path.several < LIKELY:
        return
    if row.has_several_rows:
        raise NoDigit(ROWS)
    if n_digits > MAX_DIGITS:
        raise NoDigit(MORE)
    raise SeveralDigits(n_digits)


def segment(row: Row, classifier: Classifier) -> Path:
    """Find the likeliest segmentation of a row.

    Only pieces that are wide, or not surely a digit by themselves, are cut.
    """
    scores: Segments = {}
    path = _best_path(_score(row, classifier, scores), scores, len(row.order))
    unsure = [each.key for each in path.segments if scores[each.key].score < SURE]
    wide = [each.key for each in path.segments if each.width > WIDE and each.key not in unsure]
    if len(unsure) > MAX_CUT:
        return path
    n_pieces = len(row.order)
    for piece in [piece for key in (unsure + wide)[:MAX_CUT] for piece in key]:
        whole = scores.get((piece,))
        parts = row.cut(piece)
        if whole:
            scores[parts] = whole
    if len(row.order) == n_pieces:
        return path
    return _best_path(_score(row, classifier, scores), scores, len(row.order))


def _score(row: Row, classifier: Classifier, scores: Segments) -> list[Segment]:
    """Score the segments of a row that are not scored yet: of few pieces before others."""
    segments = sorted(row.segments(), key=lambda each: each.last - each.first)[:MAX_SEGMENTS]
    new = [each for each in segments if each.key not in scores]
    for first in range(0, len(new), BLOCK):
        block = new[first : first + BLOCK]
        images = np.stack([row.image(each) for each in block])
        probabilities, is_digit = classifier.score(images)
        if is_digit is None:
            is_digit = probabilities.max(axis=1)
        is_digit = is_digit * images.any((1, 2))  # a black image is no stroke
        is_one = np.array(classifier.classes)[probabilities.argmax(axis=1)] == 1
        rows = zip(images, probabilities, is_digit.tolist(), is_one.tolist(), strict=True)
        scores |= {each.key: Scored(*row) for each, row in zip(block, rows, strict=True)}
    return segments


def _best_path(segments: list[Segment], scores: Segments, n_pieces: int) -> Path:
    """Choose consecutive segments of the largest product of likelihoods.

    Raises NoDigit if no segments cover the row.
    """
    segments = sorted(segments, key=lambda each: each.first)
    gains = [_log_likelihood(each, scores[each.key]) for each in segments]
    # up to each piece: the largest product, and its last segment
    best = np.full(n_pieces + 1, -np.inf)
    best[0] = 0
    before: dict[int, Segment] = {}
    for each, gain in zip(segments, gains, strict=True):
        if best[each.first] + gain > best[each.last]:
            best[each.last] = best[each.first] + gain
            before[each.last] = each
    if n_pieces not in before:
        raise NoDigit(UNLIKE)
    chosen = [before[n_pieces]]
    while chosen[0].first:
        chosen.insert(0, before[chosen[0].first])
    digits = [scores[each.key] for each in chosen]
    read = np.array([digit.digit for digit in digits])
    # up to each piece: the sum over all segmentations, and, up to each digit, over those
    # that read the same
    total = np.full(n_pieces + 1, -np.inf)
    same = np.full((n_pieces + 1, len(read) + 1), -np.inf)
    total[0] = same[0, 0] = 0
    one = -np.inf
    for each, gain in zip(segments, gains, strict=True):
        total[each.last] = np.logaddexp(total[each.last], total[each.first] + gain)
        further = np.where(read == scores[each.key].digit, same[each.first, :-1] + gain, -np.inf)
        same[each.last, 1:] = np.logaddexp(same[each.last, 1:], further)
        if each.last - each.first == n_pieces:
            one = gain
    share, single = np.exp([same[-1, -1] - total[-1], one - total[-1]]).tolist()
    return Path(chosen, digits, share, 1 - single)


def _log_likelihood(segment: Segment, scored: Scored) -> float:
    """Compute the logarithm of the likelihood that a segment is a digit of its row.

    The detector's part of it is a likelihood ratio: a part of a digit, or two digits,
    are none.
    """
    p = max(float(scored.probabilities.max()), LEAST)
    is_digit = min(max(scored.is_digit, LEAST), 1 - LEAST)
    ratio = math.log(is_digit / (1 - is_digit)) - NEUTRAL
    height = math.log(segment.height) / HEIGHT_SPREAD
    width = math.log(segment.width / WIDTH) / WIDTH_SPREAD
    if scored.is_one:
        width = max(width, 0.0)
    loss = CUT_LOSS * (segment.crossed > 0) + GAP_LOSS * segment.gap
    return math.log(p) + DETECTOR_WEIGHT * ratio - (height * height + width * width) / 2 - loss
