"""Predictions as JSON."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from service.classifier import ALL_CLASSES, Classifier, Scores

JSON = "application/json"


def prediction(
    classifier: Classifier, scores: Scores, i: int, extra: Mapping[str, object] = {}
) -> bytes:
    """Write the reply for image i of the scores, with extra members."""
    return f"{{{members_of(classifier, scores, i, extra)}{end_of(classifier)}".encode()


def predictions(
    classifier: Classifier,
    scores: Scores,
    errors: Mapping[int, Mapping[str, object]],
    extras: Sequence[Mapping[str, object]] = (),
) -> bytes:
    """Write the reply for several images, from their scores.

    errors: problem documents by the index of the image that they replace; extras: more
    members of each slot, or none
    """
    slots = (
        json.dumps({"error": errors[i], **extra})
        if i in errors
        else f"{{{members_of(classifier, scores, i, extra)}}}"
        for i, extra in enumerate(extras or [{}] * len(scores.probabilities))
    )
    return f'{{"predictions":[{",".join(slots)}]{end_of(classifier)}'.encode()


def members_of(
    classifier: Classifier, scores: Scores, i: int, extra: Mapping[str, object] = {}
) -> str:
    """Write the members of the prediction of image i, and extra ones.

    A JSON serialiser takes three times as long. Probabilities have seven significant
    digits, about as many as float32 holds.
    """
    values = scores.probabilities[i].tolist()
    highest = max(values)
    head = [classifier.classes[values.index(highest)], highest]
    if scores.is_digit is not None:
        head.append(scores.is_digit[i])
    template = _template(len(values), scores.is_digit is not None)
    return template % (*head, *values) + json_members(extra)


def json_members(extra: Mapping[str, object]) -> str:
    """Write more members of an object, each after a comma."""
    return "".join(f",{json.dumps(k)}:{json.dumps(v)}" for k, v in extra.items())


@lru_cache(maxsize=4)  # a model with and without a detector, and its predecessors
def _template(n_classes: int, has_is_digit: bool) -> str:
    values = ",".join(["%#.7g"] * n_classes)
    is_digit = '"is_digit":%#.7g,' if has_is_digit else ""
    return f'"digit":%d,"probability":%#.7g,{is_digit}"probabilities":[{values}]'


def end_of(classifier: Classifier) -> str:
    """Write the end of every reply: the model."""
    return _end(classifier.classes, classifier.version)


# one model is current; its predecessors may still answer requests that began earlier
@lru_cache(maxsize=4)
def _end(classes: Sequence[int], version: str) -> str:
    end = f',"model":{json.dumps(version)}'
    # only where a probability's index is not the digit itself
    if classes != ALL_CLASSES:
        end += f',"classes":{json.dumps(classes)}'
    return end + "}\n"
