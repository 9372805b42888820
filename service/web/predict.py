"""POST /predict: uploads → images → scores → reply."""

from functools import partial

import numpy as np
import numpy.typing as npt
from flask import Response, request
from werkzeug.exceptions import BadRequest

from service.classifier import Classifier, Scores
from service.explain import explain
from service.features import Images
from service.number import read_number
from service.web import problems, steps
from service.web.bulk import NPY, to_npy
from service.web.extension import extension
from service.web.families import count_predictions
from service.web.nondigits import refusals
from service.web.number_json import number, numbers, scores_of
from service.web.prediction_json import JSON, prediction, predictions
from service.web.problems import SHOWN, Refused
from service.web.steps import Errors, score, timed
from service.web.uploads import Upload, parse_body, read_body

MIN_QUALITY = 0.001  # in Accept; 0 means "not acceptable"
COST_OF_SEVERAL = 10  # small pictures that take as long as the number in a small picture


def predict() -> Response:
    """Classify one picture, several pictures, or images in bulk."""
    is_explained, is_several, _ = map(_option, ("explain", "several", "timing"))
    limits, classifier = extension().limits, extension().models.current()
    body = read_body(limits)
    upload = parse_body(body, limits)
    files, is_npy = upload.files, _prefers_npy()
    is_single = len(files) == 1 and not upload.is_list
    if is_explained and (is_npy or len(files) != 1):
        raise BadRequest(
            "explain=1 is only for one picture with a JSON reply; send one picture, or omit explain"
        )
    if is_several and (is_npy or not files):
        raise BadRequest(
            "several=1 is only for pictures with a JSON reply; send pictures, or omit several"
        )
    cost_each = COST_OF_SEVERAL if is_several else 1
    steps.admit(steps.cost_of(files, len(body), limits, cost_each))
    if is_several:
        return _answer_numbers(classifier, upload, is_single, is_explained)
    if upload.images is None:
        images, errors = steps.read_pictures(classifier, files, limits, is_single)
    else:
        images, errors = steps.read_bulk(upload.images, limits)
    is_explained = is_explained and not errors
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
    # only a list of one picture has an explanation
    extras = upload.extras if not members or errors else [members]
    return Response(predictions(classifier, scores, errors, extras), content_type=JSON)


def _answer_numbers(
    classifier: Classifier, upload: Upload, is_single: bool, is_explained: bool
) -> Response:
    """Read the number in each picture; explain each digit of the only one."""
    most = steps.max_pixels(upload.files, extension().limits)
    read = partial(read_number, classifier=classifier, max_pixels=most)
    found, errors = steps.read_files(upload.files, read, is_single)
    for each in found.values():
        scores = scores_of(each)
        count_predictions(extension().metrics, classifier.classes, scores, refused=())
    explained = found[0].digits if is_explained and not errors else []
    explanations = [_explain(classifier, digit.image) for digit in explained]
    if is_single:
        return Response(number(classifier, found[0], explanations), content_type=JSON)
    reply = numbers(classifier, found, errors, upload.extras, explanations)
    return Response(reply, content_type=JSON)


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
    values = request.args.getlist(name) or ["0"]
    if len(values) > 1:
        raise BadRequest(f"{name} is in the query {len(values)} times; send it once")
    if values[0] not in ("0", "1"):
        raise BadRequest(f"{name} is {values[0][:SHOWN]!r}; set it to 0 or 1")
    return values[0] == "1"
