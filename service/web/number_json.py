"""Numbers as JSON."""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from service.classifier import Classifier, Scores
from service.number import Number
from service.web.prediction_json import end_of, json_members, members_of


def number(classifier: Classifier, found: Number, explanations: Sequence[object] = ()) -> bytes:
    """Write the reply for the number in one picture, with an explanation of each digit."""
    return f"{{{_members(classifier, found, explanations)}{end_of(classifier)}".encode()


def numbers(
    classifier: Classifier,
    found: Mapping[int, Number],
    errors: Mapping[int, object],
    extras: Sequence[Mapping[str, object]],
    explanations: Sequence[object] = (),
) -> bytes:
    """Write the reply for several pictures: the number or the problem document of each.

    extras: more members of each slot; explanations: of each digit of the first number
    """
    slots = (
        json.dumps({"error": errors[i], **extra})
        if i in errors
        else f"{{{_members(classifier, found[i], explanations)}{json_members(extra)}}}"
        for i, extra in enumerate(extras)
    )
    return f'{{"predictions":[{",".join(slots)}]{end_of(classifier)}'.encode()


def scores_of(found: Number) -> Scores:
    """Return the scores of the digits of a number."""
    probabilities = np.array([digit.probabilities for digit in found.digits])
    is_digit = [digit.is_digit for digit in found.digits if digit.is_digit is not None]
    return Scores(probabilities, np.array(is_digit) if is_digit else None)


def _members(classifier: Classifier, found: Number, explanations: Sequence[object] = ()) -> str:
    scores = scores_of(found)
    classes = [classifier.classes[k] for k in scores.probabilities.argmax(axis=1)]
    digits = []
    for i, (digit, explanation) in enumerate(zip_longest(found.digits, explanations)):
        more = {"box": digit.box} | ({"explanation": explanation} if explanation else {})
        digits.append(f"{{{members_of(classifier, scores, i, more)}}}")
    text = "".join(map(str, classes))
    return f'"number":"{text}","digits":[{",".join(digits)}],"probability":{found.probability:#.7g}'
