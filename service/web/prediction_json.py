"""Predictions as JSON."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from service.classifier import ALL_CLASSES, Classifier, Scores

JSON = "application/json"


# one model is current; its predecessors may still answer requests that began earlier
@lru_cache(maxsize=4)
def _template(classes: Sequence[int], version: str, has_is_digit: bool) -> tuple[str, str]:
    """Return the format of a prediction's members, and the end of every reply.

    A JSON serialiser takes three times as long. Probabilities have seven significant
    digits, about as many as float32 holds.
    """
    values = ",".join(["%#.7g"] * len(classes))
    end = f',"model":{json.dumps(version)}'
    # only where a probability's index is not the digit itself
    if classes != ALL_CLASSES:
        end += f',"classes":{json.dumps(classes)}'
    is_digit = '"is_digit":%#.7g,' if has_is_digit else ""
    return f'"digit":%d,"probability":%#.7g,{is_digit}"probabilities":[{values}]', end + "}\n"


def prediction(
    classifier: Classifier, scores: Scores, i: int, extra: Mapping[str, object] = {}
) -> bytes:
    """Write the reply for image i of the scores, with extra members."""
    members = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in extra.items())
    template, end = _template_of(classifier, scores)
    return f"{{{_fields(template, classifier.classes, scores, i)}{members}{end}".encode()


def predictions(
    classifier: Classifier, scores: Scores, errors: Mapping[int, Mapping[str, object]]
) -> bytes:
    """Write the reply for several images, from their scores.

    errors: problem documents by the index of the image that they replace
    """
    template, end = _template_of(classifier, scores)
    slots = (
        json.dumps({"error": errors[i]})
        if i in errors
        else f"{{{_fields(template, classifier.classes, scores, i)}}}"
        for i in range(len(scores.probabilities))
    )
    return f'{{"predictions":[{",".join(slots)}]{end}'.encode()


def _template_of(classifier: Classifier, scores: Scores) -> tuple[str, str]:
    return _template(classifier.classes, classifier.version, scores.is_digit is not None)


def _fields(template: str, classes: Sequence[int], scores: Scores, i: int) -> str:
    values = scores.probabilities[i].tolist()
    highest = max(values)
    digit = classes[values.index(highest)]
    if scores.is_digit is None:
        return template % (digit, highest, *values)
    return template % (digit, highest, scores.is_digit[i], *values)
