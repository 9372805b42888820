"""Reading of pictures of one digit, which the model may turn, or take for several."""

import numpy as np
from PIL import Image

from service.classifier import Classifier, Scores
from service.features import Images
from service.images import Found, InvalidImage, SeveralDigits, to_image
from service.number.refusals import refuse_several
from service.number.search import SURE, log_likelihood, scored
from service.reading.decode import MAX_PIXELS, decode
from service.reading.errors import MaybeRow
from service.reading.mnist_format import to_mnist_format
from service.reading.segmentation import Doubt
from service.reading.stages import Show, ignore
from service.reading.turns import turned

# the logarithm of the likelihood at which a picture is one digit, as it is and at its best
# when it is turned too, and the score at which one that is refused is a digit on a slope
PLAIN, PLAIN_TURNED, UPRIGHT = -0.4, 0.3, 0.95
TURNS = (-30, 30)  # degrees: a digit on a slope is wide, but not when it is turned back
WIDE_SHAPE = "the shape is hardly one digit; if it holds several, leave a gap between them"


def read_one(
    upload: bytes, classifier: Classifier, max_pixels: int = MAX_PIXELS, show: Show = ignore
) -> Images:
    """Read one upload of one digit as an image (28, 28).

    Unlike read_image, it has the model choose between readings: with and without words or a
    line, of the whole and of a small plate, as it is and turned. Raises what read_image
    raises, and SeveralDigits.
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
        refuse_several(picture, None, classifier)
        raise
    scores = None
    if found and found.in_plate:
        image, found, scores = _likelier(image, found, found.in_plate, classifier)
    if found and found.alone:
        image, found, scores = _likelier(image, found, found.alone, classifier)
    if found and found.doubt == Doubt.OTHERS:
        refuse_several(picture, found.marks, classifier)
    if found and found.doubt == Doubt.SHAPE:
        scores = scores or classifier.score(image[np.newaxis])
        (one,) = scored(image[np.newaxis], scores, classifier)
        if log_likelihood(one, 1, _aspect(found)) < PLAIN:
            image, scores = _upright(picture, image, found, classifier)
    show("28x28", image)
    return image, scores


def _likelier(
    image: Images, found: Found, other: Found, classifier: Classifier
) -> tuple[Images, Found, Scores]:
    """Return what was found or, if it is likelier a digit, something other, and its scores (1,)."""
    images = np.stack([image, to_mnist_format(other.ink, other.mask)])
    scores = classifier.score(images)
    whole, rest = scored(images, scores, classifier)
    if rest.score > whole.score and whole.score < SURE:
        return images[1], other, _of(scores, 1)
    return image, found, _of(scores, 0)


def _of(scores: Scores, i: int) -> Scores:
    """Return the scores (1,) of one of some images."""
    one, is_digit = slice(i, i + 1), scores.is_digit
    return Scores(scores.probabilities[one], None if is_digit is None else is_digit[one])


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
    scores = classifier.score(images)
    alone = scored(images, scores, classifier)
    is_refused = 0 in classifier.refused(scores)
    likely = max(log_likelihood(each, 1, _aspect(found)) for each in alone)
    # the search for several takes ten times as long as the two turns
    if likely < PLAIN_TURNED:
        try:
            if refuse_several(picture, found.marks, classifier, alone):
                raise InvalidImage(WIDE_SHAPE)
        except SeveralDigits:
            raise
        except InvalidImage:
            if not is_refused:
                raise
            return images[0], _of(scores, 0)
    best = max(range(len(alone)), key=lambda i: alone[i].score)
    i = best if is_refused and alone[best].score >= UPRIGHT else 0
    return images[i], _of(scores, i)
