"""The segmentation of a row of digits that the model finds the likeliest."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier, Scores
from service.features import Images
from service.reading.row import Key, Row, Segment

# images that are scored for one picture before cuts, and after them; segments that are
# cut: a picture with more unlikely ones is no number
MAX_SEGMENTS, MAX_CUT = 200, 6
BLOCK = 32  # images scored at once
SURE = 0.98  # the score at which a segment, or an underlined shape, is one digit
WIDE = 0.95  # of the height of the row: a segment that is wider may be two digits for all that
# The likelihood of a segment, chosen on numbers of MNIST's validation rows: the weight of
# the detector's log odds, and those of a segment that is as likely a digit as not; what a
# cut loses; what a gap within a digit loses, per height of the row
DETECTOR_WEIGHT, NEUTRAL, CUT_LOSS, GAP_LOSS = 0.5, 3.0, 1.0, 3.0
# a digit's width but for a 1's, of the row's height; the standard deviations of the
# logarithms of its height and width; a 1 is no wider than others, and may be narrower
WIDTH, HEIGHT_SPREAD, WIDTH_SPREAD = 0.75, 0.25, 0.4
LEAST = 1e-3  # probabilities closer to 0, and P(digit) closer to 1, count as this


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


NO_PATH = Path([], [], 0, -math.inf, -math.inf)


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
        digits = scored(images, classifier.score(images), classifier)
        scores |= zip([each.key for each in block], digits, strict=True)
    return segments


def scored(images: Images, scores: Scores, classifier: Classifier) -> list[Scored]:
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
        log_likelihood(scores[each.key], each.height, each.width)
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
        return NO_PATH
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


def log_likelihood(digit: Scored, height: float, width: float) -> float:
    """Compute the logarithm of the likelihood that ink is a digit of its row.

    height, width: of the row's height. The detector's part of it is a likelihood ratio: a
    part of a digit, or two digits, are none.
    """
    p = max(float(digit.probabilities.max()), LEAST)
    is_digit = min(max(digit.is_digit, LEAST), 1 - LEAST)
    ratio = math.log(is_digit / (1 - is_digit)) - NEUTRAL
    x, y = math.log(width / WIDTH) / WIDTH_SPREAD, math.log(height) / HEIGHT_SPREAD
    if digit.is_one:
        x = max(x, 0.0)
    return math.log(p) + DETECTOR_WEIGHT * ratio - (x * x + y * y) / 2
