"""POST /predict: uploads → images → scores → reply."""

from functools import partial

import numpy as np
import numpy.typing as npt
from flask import Response, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from service.classifier import Classifier, Scores
from service.explain import explain
from service.features import IMAGE_SIZE, Images
from service.images import read_levels
from service.number import read_number, read_one
from service.settings import Limits
from service.web import problems
from service.web.bulk import NPY, to_npy, unusual_images
from service.web.extension import extension
from service.web.families import count_predictions
from service.web.nondigits import refusals
from service.web.number_json import number, numbers, scores_of
from service.web.prediction_json import JSON, prediction, predictions
from service.web.problems import SHOWN, Refused
from service.web.steps import Errors, admit, cost_of, read_each, read_files, score, timed
from service.web.uploads import bulk_images, pictures, read_body

MIN_QUALITY = 0.001  # in Accept; 0 means "not acceptable"
COST_OF_SEVERAL = 10  # small pictures that take as long as the number in a small picture


def predict() -> Response:
    """Classify one picture, several pictures, or images in bulk."""
    is_explained, is_several, _ = map(_option, ("explain", "several", "timing"))
    limits, classifier = extension().limits, extension().models.current()
    body = read_body(limits)
    bulk = bulk_images(body, limits)
    files = [] if bulk is not None else pictures(body, limits)
    is_single, is_npy = len(files) == 1, _prefers_npy()
    if is_explained and (is_npy or not is_single):
        raise BadRequest(
            "explain=1 is only for one picture with a JSON reply; send one picture, or omit explain"
        )
    if is_several and (is_npy or not files):
        raise BadRequest(
            "several=1 is only for pictures with a JSON reply; send pictures, or omit several"
        )
    admit(cost_of(files, len(body), limits, COST_OF_SEVERAL if is_several else 1))
    if is_several:
        return _answer_numbers(classifier, files, limits, is_explained)
    if bulk is None:
        images, errors = _read_pictures(classifier, files, limits)
    else:
        images, errors = _read_bulk(bulk, limits)
    members = {"explanation": _explain(classifier, images[0])} if is_explained else {}
    scores = score(classifier, images)
    refused = refusals(classifier, scores, **members)
    count_predictions(extension().metrics, classifier.classes, scores, refused)
    if is_single and refused:
        raise refused[0]
    if is_single and not is_npy:
        return Response(prediction(classifier, scores, 0, members), content_type=JSON)
    scores, errors = _in_slots(scores, refused, errors)
    if is_npy:
        return Response(to_npy(scores.probabilities.astype(np.float32)), content_type=NPY)
    return Response(predictions(classifier, scores, errors), content_type=JSON)


def _answer_numbers(
    classifier: Classifier, files: list[bytes], limits: Limits, is_explained: bool
) -> Response:
    """Read the number in each picture; explain each digit of a single picture."""
    max_pixels = _max_pixels(files, limits)
    read = partial(read_number, classifier=classifier, max_pixels=max_pixels)
    found, errors = read_files(files, read)
    for each in found.values():
        scores = scores_of(each)
        count_predictions(extension().metrics, classifier.classes, scores, refused=())
    if len(files) > 1:
        return Response(numbers(classifier, found, errors), content_type=JSON)
    explained = found[0].digits if is_explained else []
    explanations = [_explain(classifier, digit.image) for digit in explained]
    return Response(number(classifier, found[0], explanations), content_type=JSON)


def _max_pixels(files: list[bytes], limits: Limits) -> int:
    """Return the pixels that each of some pictures may have."""
    return min(limits.max_pixels, limits.max_pixels_together // len(files))


def _read_pictures(
    classifier: Classifier, files: list[bytes], limits: Limits
) -> tuple[Images, Errors]:
    """Read pictures of one digit each as images (n, 28, 28)."""
    max_pixels = _max_pixels(files, limits)
    read = partial(read_one, classifier=classifier, max_pixels=max_pixels)
    images, errors = read_files(files, read)
    return np.array(list(images.values()), np.uint8).reshape(-1, *IMAGE_SIZE), errors


def _read_bulk(images: Images, limits: Limits) -> tuple[Images, Errors]:
    """Read the images (N, 28, 28) that are not MNIST-shaped as pictures; keep the others."""
    with timed("read"):
        unusual = unusual_images(images)
    if len(unusual) > limits.max_pictures:
        raise RequestEntityTooLarge(
            f"{len(unusual):,} of {len(images):,} images are not in MNIST's format and would be "
            f"read as pictures; send at most {limits.max_pictures:,} of these"
        )
    if not len(unusual):
        return images, {}
    admit(len(unusual))
    read, errors = read_each({i: images[i] for i in unusual.tolist()}, read_levels)
    images = images.copy()
    for i, image in read.items():
        images[i] = image
    return np.delete(images, list(errors), axis=0), errors


def _explain(classifier: Classifier, image: Images) -> dict[str, object]:
    with timed("explain"):
        return explain(classifier, image)


def _in_slots(scores: Scores, refused: dict[int, Refused], errors: Errors) -> tuple[Scores, Errors]:
    """Add slots for the images that could not be read, and an error for each refused one.

    Rows of images with an error are NaN.
    """
    if not refused and not errors:
        return scores, errors
    n = len(scores.probabilities) + len(errors)
    slots = np.setdiff1d(np.arange(n), list(errors)).tolist()  # of the scores
    errors = errors | {slots[i]: problems.fields(error) for i, error in refused.items()}

    def spread(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rows = np.full((n, *values.shape[1:]), np.nan)
        rows[slots] = values
        rows[list(errors)] = np.nan
        return rows

    is_digit = None if scores.is_digit is None else spread(scores.is_digit)
    return Scores(spread(scores.probabilities), is_digit), errors


def _prefers_npy() -> bool:
    """Return whether Accept names .npy with at least the quality of JSON."""
    accepted = request.accept_mimetypes
    names = [name.partition(";")[0].lower() for name in accepted.values()]
    return NPY in names and accepted[NPY] >= max(accepted[JSON], MIN_QUALITY)


def _option(name: str) -> bool:
    """Parse a query parameter that is 0 or 1."""
    value = request.args.get(name, "0")
    if value not in ("0", "1"):
        raise BadRequest(f"{name} is {value[:SHOWN]!r}; set it to 0 or 1")
    return value == "1"
