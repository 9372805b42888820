"""Numbers: the segmentation of a row of digits that the model finds the likeliest."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.classifier import Classifier, Scores
from service.features import Images
from service.images import Found, InvalidImage, find_row, to_image
from service.reading.bars import may_be_sign
from service.reading.decode import MAX_PIXELS, decode, upright_size
from service.reading.errors import MaybeRow, SeveralDigits, UnlikeDigits
from service.reading.mnist_format import is_mnist_shaped, to_mnist_format
from service.reading.morphology import bounding_box
from service.reading.row import Key, Row, Segment, Sign, select_row
from service.reading.scale import Corners, levels_of
from service.reading.segmentation import Doubt, Marks
from service.reading.stages import Show, ignore
from service.reading.turns import turned

MAX_DIGITS = 20
# images that are scored for one picture before cuts, and after them; segments that are
# cut: a picture with more unlikely ones is no number
MAX_SEGMENTS, MAX_CUT = 200, 6
BLOCK = 32  # images scored at once
SURE = 0.98  # the score at which a segment, or an underlined shape, is one digit
# the logarithm of the likelihood at which a picture is one digit, as it is and at its best
# when it is turned too, and the score at which one that is refused is a digit on a slope
PLAIN, PLAIN_TURNED, UPRIGHT = -0.4, 0.3, 0.95
WIDE = 0.95  # of the height of the row: a segment that is wider may be two digits for all that
# The likelihood of a segment, chosen on numbers of MNIST's validation rows: the weight of
# the detector's log odds, and those of a segment that is as likely a digit as not; what a
# cut loses; what a gap within a digit loses, per height of the row
DETECTOR_WEIGHT, NEUTRAL, CUT_LOSS, GAP_LOSS = 0.5, 3.0, 1.0, 3.0
# a digit's width but for a 1's, of the row's height; the standard deviations of the
# logarithms of its height and width; a 1 is no wider than others, and may be narrower
WIDTH, HEIGHT_SPREAD, WIDTH_SPREAD = 0.75, 0.25, 0.4
LEAST = 1e-3  # probabilities closer to 0, and P(digit) closer to 1, count as this
NEEDLESS = 0.02  # of the score: what a digit loses at most without what is no part of it
AMBIGUOUS = 0.5  # the probability that a point is dirt, or that a stroke is a 1, no slash
LIKELY = 0.5  # the least probability of several digits, and of each, to refuse them as one
DOUBT = 0.7  # the logarithm of how much likelier one digit must be than several
TURNS = (-30, 30)  # degrees: a digit on a slope is wide, but not when it is turned back
# the least probability of a number, and of one whose digits were cut apart
CLEAR, CLEAR_CUT = 0.05, 0.55
UNCLEAR = "the digits of the number are not clear; leave a gap between them"
WIDE_SHAPE = "the shape is hardly one digit; if it holds several, leave a gap between them"
MORE = f"the number has more than {MAX_DIGITS} digits; send parts of it"
SIGN = "a mark beside the digits is no digit, such as a point or a minus; send digits alone"
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
    """The likeliest segmentation of a row, and how likely it is."""

    segments: list[Segment]
    digits: list[Scored]
    share: float  # of the segmentations that read the same
    # the logarithms of the likelihoods of several digits, and of one
    several: float
    alone: float

    @property
    def probability(self) -> float:
        """The probability that all digits are right."""
        return self.share * math.prod(digit.score for digit in self.digits)


def read_number(upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS) -> Number:
    """Read one upload as a number: a row of 1 to MAX_DIGITS digits.

    Raises what read_image raises, and InvalidImage for several rows, for more digits, and
    for ink that does not look like digits.
    """
    picture = decode(upload, max_pixels)
    levels = levels_of(picture)
    if is_mnist_shaped(levels):
        return _one_digit(levels, classifier)
    row, view = find_row(picture)
    if row.has_several_rows:
        raise InvalidImage(ROWS)
    path = segment(row, classifier)
    signs = _signs_beside(row, path, classifier)
    _refuse_unclear(path, signs, classifier)
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
    is_ambiguous = bool(signs) or any(
        digit.is_one and may_be_sign(digit.image, 0 < i < len(digits) - 1)
        for i, digit in enumerate(path.digits if len(digits) > 1 else ())
    )
    return Number(digits, path.probability * (AMBIGUOUS if is_ambiguous else 1))


def _refuse_unclear(path: Path, signs: list[Sign], classifier: Classifier) -> None:
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


def _signs_beside(row: Row, path: Path, classifier: Classifier) -> list[Sign]:
    """List the signs that are no part of a digit: each is as clear without its own."""
    joined = [
        (sign, row.without(segment, sign.piece), digit)
        for segment, digit in zip(path.segments, path.digits, strict=True)
        for sign in row.signs
        if sign.piece in segment.key and len(segment.key) > 1
    ]
    signs = [sign for sign in row.signs if not sign.piece]
    if joined:
        images = np.stack([row.image(segment) for _, segment, _ in joined])
        without = _scored(images, classifier.score(images), classifier)
        signs += [
            sign
            for each, (sign, _, digit) in zip(without, joined, strict=True)
            if each.score >= max(LIKELY, digit.score - NEEDLESS)
        ]
    return signs


def _pixels(corners: Corners) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the box around corners (4, 2), in whole pixels."""
    (left, top), (right, bottom) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    return int(left), int(top), int(right - left), int(bottom - top)


def _one_digit(image: Images, classifier: Classifier) -> Number:
    """Return the number of one digit in an MNIST-shaped picture.

    Raises InvalidImage if it hardly looks like a digit.
    """
    scores = classifier.score(image[np.newaxis])
    (one,) = _scored(image[np.newaxis], scores, classifier)
    if classifier.refused(scores):
        raise UnlikeDigits([one.is_digit])
    if one.score < CLEAR:
        raise InvalidImage(UNCLEAR)
    rows, columns = bounding_box(image > 0)
    box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
    is_digit = one.is_digit if classifier.detector else None
    return Number([DigitAt(image, box, one.probabilities, is_digit)], one.score)


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
    if found and found.without_line:
        image, found, scores = _likelier(image, found, found.without_line, classifier)
    if found and found.doubt == Doubt.SHAPE:
        scores = scores or classifier.score(image[np.newaxis])
        (one,) = _scored(image[np.newaxis], scores, classifier)
        if _log_likelihood(one, 1, _aspect(found)) < PLAIN:
            image, scores = _upright(picture, image, found, classifier)
    show("28x28", image)
    return image, scores


def _likelier(
    image: Images, found: Found, other: Found, classifier: Classifier
) -> tuple[Images, Found, Scores]:
    """Return what was found or, if it is likelier a digit, something other, and its scores (1,)."""
    images = np.stack([image, to_mnist_format(other.ink, other.mask)])
    whole, rest = (classifier.score(images[i : i + 1]) for i in range(2))
    if _score_of(rest) > _score_of(whole) and _score_of(whole) < SURE:
        return images[1], other, rest
    return image, found, whole


def _score_of(scores: Scores) -> float:
    """Return the probability of a single image's class, if it is a digit, and that it is one."""
    p = 1.0 if scores.is_digit is None else float(scores.is_digit[0])
    return float(scores.probabilities.max()) * p


def _aspect(found: Found) -> float:
    """Return a shape's width over its height."""
    return found.mask.shape[1] / found.mask.shape[0]


def _upright(
    picture: Image.Image, image: Images, found: Found, classifier: Classifier
) -> tuple[Images, Scores]:
    """Return a wide shape's image, turned if it is no digit otherwise, and its scores (1,).

    Raises InvalidImage if it may be several digits. One that the classifier refuses is
    left to it: it says how unlike a digit the shape is.
    """
    images = np.stack([image, *(turned(image, degrees) for degrees in TURNS)])
    probabilities, is_digit = scores = classifier.score(images)
    alone = _scored(images, scores, classifier)
    is_refused = 0 in classifier.refused(scores)
    likely = max(_log_likelihood(each, 1, _aspect(found)) for each in alone)
    # the search for several takes ten times as long as the two turns
    is_unclear = likely < PLAIN_TURNED and _refuse_several(picture, found.marks, classifier, alone)
    if is_unclear and not is_refused:
        raise InvalidImage(WIDE_SHAPE)
    best = max(range(len(alone)), key=lambda i: alone[i].score)
    i = best if is_refused and alone[best].score >= UPRIGHT else 0
    one = slice(i, i + 1)
    return images[i], Scores(probabilities[one], None if is_digit is None else is_digit[one])


def _refuse_several(
    picture: Image.Image, marks: Marks | None, classifier: Classifier, alone: Sequence[Scored] = ()
) -> bool:
    """Raise InvalidImage if a picture is likely to hold more than one digit.

    marks: what was found in it, if it shows all digits; alone: the same as one digit.
    Return whether it may hold several that are not clear.
    """
    try:
        row = select_row(marks) if marks else find_row(picture)[0]
    except InvalidImage:
        return False
    if row.has_several_rows:
        return _refuse_rows(row, classifier)
    path = segment(row, classifier)
    whole = row.whole()
    one = (_log_likelihood(each, whole.height, whole.width) for each in alone)
    if path.several < max(path.alone, *one, -np.inf) - DOUBT:
        return False
    n_digits = sum(digit.score >= LIKELY for digit in path.digits)
    if n_digits < 2:
        return True
    _refuse_unclear(path, _signs_beside(row, path, classifier), classifier)
    raise SeveralDigits(n_digits)


def _refuse_rows(row: Row, classifier: Classifier) -> bool:
    """Raise InvalidImage if several rows hold more than one digit; else return False."""
    pieces = [each for each in row.segments() if len(each.key) == 1]
    images = np.stack([row.image(each) for each in pieces[:MAX_SEGMENTS]])
    scored = _scored(images, classifier.score(images), classifier)
    if sum(each.score >= LIKELY for each in scored) > 1:
        raise InvalidImage(ROWS)
    return False


def segment(row: Row, classifier: Classifier) -> Path:
    """Find the likeliest segmentation of a row; it is empty if none was scored.

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
        scored = _scored(images, classifier.score(images), classifier)
        scores |= zip([each.key for each in block], scored, strict=True)
    return segments


def _scored(images: Images, scores: Scores, classifier: Classifier) -> list[Scored]:
    """List what scores say of each of some images (n, 28, 28)."""
    probabilities, is_digit = scores
    if is_digit is None:
        is_digit = probabilities.max(axis=1)
    is_digit = is_digit * images.any((1, 2))  # a black image is no stroke
    is_one = np.array(classifier.classes)[probabilities.argmax(axis=1)] == 1
    rows = zip(images, probabilities, is_digit.tolist(), is_one.tolist(), strict=True)
    return [Scored(*row) for row in rows]


def _best_path(segments: list[Segment], scores: Segments, n_pieces: int) -> Path:
    """Choose consecutive segments of the largest product of likelihoods.

    There are none if too many may be chosen from.
    """
    segments = sorted(segments, key=lambda each: each.first)
    gains = [
        _log_likelihood(scores[each.key], each.height, each.width)
        - CUT_LOSS * (each.crossed > 0)
        - GAP_LOSS * each.gap
        for each in segments
    ]
    # up to each piece: the largest product, and its last segment
    best = np.full(n_pieces + 1, -np.inf)
    best[0] = 0
    before: dict[int, Segment] = {}
    for each, gain in zip(segments, gains, strict=True):
        if best[each.first] + gain > best[each.last]:
            best[each.last] = best[each.first] + gain
            before[each.last] = each
    if n_pieces not in before:
        return Path([], [], 0, -math.inf, -math.inf)
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
        further = np.where(read == scores[each.key].digit, same[each.first, :-1] + gain, -np.inf)
        same[each.last, 1:] = np.logaddexp(same[each.last, 1:], further)
        if each.last - each.first == n_pieces:
            one = gain
        else:
            total[each.last] = np.logaddexp(total[each.last], total[each.first] + gain)
    share = math.exp(same[-1, -1] - np.logaddexp(total[-1], one))
    return Path(chosen, digits, share, float(total[-1]), one)


def _log_likelihood(scored: Scored, height: float, width: float) -> float:
    """Compute the logarithm of the likelihood that ink is a digit of its row.

    height, width: of the row's height. The detector's part of it is a likelihood ratio: a
    part of a digit, or two digits, are none.
    """
    p = max(float(scored.probabilities.max()), LEAST)
    is_digit = min(max(scored.is_digit, LEAST), 1 - LEAST)
    ratio = math.log(is_digit / (1 - is_digit)) - NEUTRAL
    x, y = math.log(width / WIDTH) / WIDTH_SPREAD, math.log(height) / HEIGHT_SPREAD
    if scored.is_one:
        x = max(x, 0.0)
    return math.log(p) + DETECTOR_WEIGHT * ratio - (x * x + y * y) / 2
