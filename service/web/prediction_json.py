"""Predictions as JSON."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from service.classifier import ALL_CLASSES, Classifier, Floats

JSON = "application/json"


# one model is current; its predecessors may still answer requests that began earlier
@lru_cache(maxsize=4)
def _template(classes: Sequence[int], version: str) -> tuple[str, str]:
    """Return the format of a prediction's members, and the end of every reply.

    A JSON serialiser takes three times as long. Probabilities have seven significant
    digits, about as many as float32 holds.
    """
    values = ",".join(["%#.7g"] * len(classes))
    end = f',"model":{json.dumps(version)}'
    # only where a probability's index is not the digit itself
    if classes != ALL_CLASSES:
        end += f',"classes":{json.dumps(classes)}'
    return f'"digit":%d,"probability":%#.7g,"probabilities":[{values}]', end + "}\n"


def prediction(classifier: Classifier, probabilities: Floats, **extra: object) -> bytes:
    """Write the reply for one image, from its probabilities (K,) and extra members."""
    members = "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in extra.items())
    template, end = _template(classifier.classes, classifier.version)
    fields = _fields(template, classifier.classes, probabilities)
    return f"{{{fields}{members}{end}".encode()


def predictions(
    classifier: Classifier, probabilities: Floats, errors: Mapping[int, Mapping[str, object]]
) -> bytes:
    """Write the reply for several images, from their probabilities (N, K).

    errors: problem documents by the index of the image that they replace
    """
    template, end = _template(classifier.classes, classifier.version)
    slots = (
        json.dumps({"error": errors[i]})
        if i in errors
        else f"{{{_fields(template, classifier.classes, row)}}}"
        for i, row in enumerate(probabilities)
    )
    return f'{{"predictions":[{",".join(slots)}]{end}'.encode()


def _fields(template: str, classes: Sequence[int], row: Floats) -> str:
    values = row.tolist()
    highest = max(values)
    return template % (classes[values.index(highest)], highest, *values)
