"""Numbers: the segmentation of a row of digits that the model finds the likeliest."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.classifier import Classifier
from service.features import Images
from service.images import InvalidImage, Place, find_row, to_image
from service.reading.decode import MAX_PIXELS, decode, levels_of, upright_size
from service.reading.errors import NoDigit, SeveralDigits
from service.reading.mnist_format import is_mnist_shaped
from service.reading.morphology import bounding_box
from service.reading.row import Key, Row, Segment
from service.reading.segmentation import Doubt
from service.reading.stages import Show, ignore

MAX_DIGITS = 20
MAX_SEGMENTS = 400  # images that are scored for one picture, before and after cuts
BLOCK = 32  # images scored at once
SURE = 0.98  # a segment with this score is one digit
# The likelihood of a segment, chosen on numbers of MNIST's validation rows: the weight of
# the detector's log odds, and those of a segment that is as likely a digit as not; what a
# cut loses; the standard deviation of the logarithm of a digit's height, of the row's
DETECTOR_WEIGHT, NEUTRAL, CUT_LOSS, HEIGHT_SPREAD = 0.5, 2.0, 1.0, 0.35
LEAST = 1e-3  # probabilities closer to 0, and P(digit) closer to 1, count as this
LIKELY = 0.5  # the least probability of several digits, and of each, to refuse them as one
# the least probability of a number, and of one whose digits were cut apart
CLEAR, CLEAR_CUT = 0.1, 0.2


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

    @property
    def digit(self) -> int:
        """The index of the likeliest class."""
        return int(self.probabilities.argmax())

    @property
    def score(self) -> float:
        """The probability that the segment is the digit that it seems to be."""
        return float(self.probabilities.max()) * self.is_digit


class Path(NamedTuple):
    """The best segmentation of a row, and shares of the likelihood of all."""

    keys: list[Key]
    share: float  # of those that read the same
    several: float  # of those of several digits
    has_cut: bool  # whether it has digits that touch


def read_number(upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS) -> Number:
    """Read one upload as a number: a row of 1 to MAX_DIGITS digits.

    Raises what read_image raises, and NoDigit for several rows, for more digits, and
    for ink that does not look like digits.
    """
    picture = decode(upload, max_pixels)
    levels = levels_of(picture)
    if is_mnist_shaped(levels):
        return _one_digit(levels, classifier)
    place = find_row(picture)
    scored, path = segment(place.row, classifier)
    digits = [scored[key] for key in path.keys]
    least = classifier.detector.threshold if classifier.detector else LEAST
    is_unlike = any(digit.is_digit < least for digit in digits)
    probability = path.share * math.prod(digit.score for digit in digits)
    if place.row.has_several_rows and probability < LIKELY:
        raise NoDigit("the picture holds several rows of digits; send one row")
    if is_unlike:
        raise NoDigit("a part of the number does not look like a digit")
    if len(digits) > MAX_DIGITS:
        raise NoDigit(f"the number has more than {MAX_DIGITS} digits")
    if probability < (CLEAR_CUT if path.has_cut else CLEAR):
        raise NoDigit("the digits of the number are not clear; leave a gap between them")
    size = upright_size(upload)
    at = [
        DigitAt(
            digit.image,
            _box(place, key, size),
            digit.probabilities,
            digit.is_digit if classifier.detector else None,
        )
        for digit, key in zip(digits, path.keys, strict=True)
    ]
    return Number(at, probability)


def _one_digit(image: Images, classifier: Classifier) -> Number:
    """Return the number of one digit in an MNIST-shaped picture."""
    scores = classifier.score(image[np.newaxis])
    rows, columns = bounding_box(image > 0)
    box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    is_digit = None if scores.is_digit is None else float(scores.is_digit[0])
    probability = float(scores.probabilities.max()) * (1 if is_digit is None else is_digit)
    return Number([DigitAt(image, box, scores.probabilities[0], is_digit)], probability)


def read_one(
    upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS, show: Show = ignore
) -> Images:
    """Read one upload of one digit as an image (28, 28), as read_image does.

    Raises also SeveralDigits.
    """
    picture = decode(upload, max_pixels)
    show("decoded", picture)
    try:
        image, doubt = to_image(picture, show)
    except NoDigit:
        _refuse_several(picture, classifier)
        raise
    if doubt == Doubt.OTHERS or (doubt == Doubt.SHAPE and not _is_sure(image, classifier)):
        _refuse_several(picture, classifier)
    show("28x28", image)
    return image


def _is_sure(image: Images, classifier: Classifier) -> bool:
    """Return whether an image (28, 28) is surely one digit."""
    probabilities, is_digit = classifier.score(image[np.newaxis])
    return bool(probabilities.max() * (1 if is_digit is None else is_digit[0]) >= SURE)


def _refuse_several(picture: Image.Image, classifier: Classifier) -> None:
    """Raise SeveralDigits if a picture is likely to hold more than one digit."""
    try:
        row = find_row(picture).row
    except InvalidImage:
        return
    scored, path = segment(row, classifier)
    n_digits = sum(scored[key].score >= LIKELY for key in path.keys)
    if n_digits > 1 and path.several >= LIKELY:
        raise SeveralDigits(n_digits)


def segment(row: Row, classifier: Classifier) -> tuple[dict[Key, Scored], Path]:
    """Find the likeliest segmentation of a row; return also what the model says of each.

    Only pieces that are no digit by themselves, or too wide, are cut.
    """
    scored: dict[Key, Scored] = {}
    segments = _score(row, classifier, scored)
    path = _best_path(row, segments, scored)
    wide = {each.key for each in segments if each.is_wide}
    unsure = [key for key in path.keys if key in wide or scored[key].score < SURE]
    n_pieces = len(row.order)
    for label in [label for key in unsure for label in key]:
        pieces = row.cut(label)
        if (label,) in scored:
            scored[pieces] = scored[label,]
    if len(row.order) > n_pieces:
        segments = _score(row, classifier, scored)
        path = _best_path(row, segments, scored)
    return scored, path


def _score(row: Row, classifier: Classifier, scored: dict[Key, Scored]) -> list[Segment]:
    """Score the segments of a row that are not scored yet: of few pieces before others."""
    segments = sorted(row.segments(), key=lambda each: each.last - each.first)[:MAX_SEGMENTS]
    new = [each.key for each in segments if each.key not in scored]
    for first in range(0, len(new), BLOCK):
        keys = new[first : first + BLOCK]
        images = np.stack([row.image(key) for key in keys])
        scores = classifier.score(images)
        # a black image is no stroke
        is_digit = scores.is_digit
        if is_digit is None:
            is_digit = scores.probabilities.max(axis=1)
        is_digit = is_digit * images.any((1, 2))
        for i, key in enumerate(keys):
            scored[key] = Scored(images[i], scores.probabilities[i], float(is_digit[i]))
    return segments


def _best_path(row: Row, segments: list[Segment], scored: dict[Key, Scored]) -> Path:
    """Choose consecutive segments of the largest product of likelihoods.

    Its share of the likelihood of all segmentations counts those that read the same.
    """
    n = len(row.order)
    best = np.full(n + 1, -np.inf)
    best[0] = 0
    before: dict[int, Segment] = {}
    segments = sorted(segments, key=lambda each: each.first)
    gains = [_log_likelihood(each, scored[each.key]) for each in segments]
    for each, gain in zip(segments, gains, strict=True):
        if best[each.first] + gain > best[each.last]:
            best[each.last] = best[each.first] + gain
            before[each.last] = each
    keys: list[Key] = []
    has_cut, at = False, n
    while at:
        keys.insert(0, before[at].key)
        has_cut |= before[at].cut > 0
        at = before[at].first
    # the likelihood up to each piece: of all segmentations, and of those that read the
    # same up to each digit
    total = np.full(n + 1, -np.inf)
    same = np.full((n + 1, len(keys) + 1), -np.inf)
    total[0] = same[0, 0] = 0
    digits = np.array([scored[key].digit for key in keys])
    for each, gain in zip(segments, gains, strict=True):
        total[each.last] = np.logaddexp(total[each.last], total[each.first] + gain)
        further = np.where(digits == scored[each.key].digit, same[each.first, :-1] + gain, -np.inf)
        same[each.last, 1:] = np.logaddexp(same[each.last, 1:], further)
    one = [gain for each, gain in zip(segments, gains, strict=True) if each.last - each.first == n]
    share, one_share = np.exp([same[-1, -1] - total[-1], max(one, default=-np.inf) - total[-1]])
    return Path(keys, float(share), 1 - float(one_share), has_cut)


def _log_likelihood(segment: Segment, scored: Scored) -> float:
    """Compute the logarithm of the likelihood that a segment is a digit of its row.

    The detector's part of it is a likelihood ratio: a part of a digit, or two digits,
    are none.
    """
    p = max(float(scored.probabilities.max()), LEAST)
    is_digit = min(max(scored.is_digit, LEAST), 1 - LEAST)
    ratio = math.log(is_digit / (1 - is_digit)) - NEUTRAL
    height = math.log(segment.height) / HEIGHT_SPREAD
    cut = CUT_LOSS if segment.cut > 0 else 0.0
    return math.log(p) + DETECTOR_WEIGHT * ratio - height * height / 2 - cut


def _box(place: Place, key: Key, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return x, y, width and height of a segment in pixels of an upload of this size."""
    corners = place.view.at_working_size(place.row.box(key)) * size
    (left, top), (right, bottom) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    return int(left), int(top), int(right - left), int(bottom - top)
