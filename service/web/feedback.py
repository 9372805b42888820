"""POST /feedback: the correction of an answer is kept."""

import logging
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from werkzeug.exceptions import BadRequest, NotFound

from service.feedback import NotKept, keep
from service.web import steps
from service.web.extension import extension
from service.web.forms import Part
from service.web.problems import SHOWN, error_of
from service.web.uploads import parse_body, read_body

NOT_A_DIGIT = "none"
EXAMPLE = "curl -F image=@digit.png -F digit=4"

_log = logging.getLogger(__name__)


def feedback() -> dict[str, Any]:
    """Keep a picture, the answer to it, and the digit that it shows."""
    folder = extension().feedback_dir
    if folder is None:
        raise NotFound(
            "this service keeps no corrections; the operator may set DIGITS_FEEDBACK_DIR"
        )
    limits, classifier = extension().limits, extension().models.current()
    body = read_body(limits)
    upload = parse_body(body, limits)
    digit = _digit(upload.fields, classifier.classes)
    picture = upload.files[0] if len(upload.files) == 1 else None
    if not isinstance(picture, bytes):
        raise BadRequest(f"{len(upload.files)} pictures; send one: {EXAMPLE}")
    steps.admit(steps.cost_of(upload.files, len(body), limits))
    images, _ = steps.read_pictures(classifier, upload.files, limits, is_single=True)
    scores = steps.score(classifier, images)
    k, is_digit = scores.probabilities[0].argmax(), scores.is_digit
    answer = {"digit": classifier.classes[k], "probability": _rounded(scores.probabilities[0, k])}
    answer |= {} if is_digit is None else {"is_digit": _rounded(is_digit[0])}
    answer["model"] = classifier.version
    try:
        name = keep(folder, picture, digit, answer, time.time())
    except (NotKept, OSError) as error:
        extension().metrics.count("digits_feedback", "failed")
        reason = getattr(error, "strerror", None) or str(error)
        _log.error("correction not kept in %s: %s", folder, reason)
        detail = f"the correction was not kept: {reason}; tell the operator"
        raise error_of(HTTPStatus.INSUFFICIENT_STORAGE, detail) from error
    extension().metrics.count("digits_feedback", "kept")
    return {"correction": name, "digit": digit, "answer": answer}


def _digit(fields: Sequence[Part], classes: Sequence[int]) -> int | None:
    """Parse the only field `digit`: a class of the model, or None for no digit.

    Raises BadRequest for any other.
    """
    values = [part.content for part in fields if part.name == "digit"]
    if len(values) != 1:
        raise BadRequest(
            f"the field 'digit' is in the form {len(values)} times; send it once, beside the "
            f"picture: {EXAMPLE}"
        )
    known = {NOT_A_DIGIT: None, **{str(digit): digit for digit in classes}}
    text = values[0].decode("utf-8", "replace").strip()
    if text not in known:
        raise BadRequest(f"the digit is {text[:SHOWN]!r}; send one of {', '.join(known)}")
    return known[text]


def _rounded(value: float) -> float:
    """Round to the digits of a reply."""
    return float(f"{value:.7g}")
