"""Refusal of images that do not look like a digit."""

from collections.abc import Mapping

from werkzeug.exceptions import UnprocessableEntity

from service.classifier import Classifier, Scores


class NotADigit(UnprocessableEntity):
    """An image whose P(digit) is below the threshold of the weights file."""

    def __init__(self, nearest: int, is_digit: float, extra: Mapping[str, object]) -> None:
        super().__init__("this does not look like a digit")
        # of the problem document, beside those of every error; with the digits of a reply
        self.members = {"is_digit": float(f"{is_digit:.7g}"), "digit": nearest, **extra}


def refusals(
    classifier: Classifier, scores: Scores, extra: Mapping[str, object] = {}
) -> dict[int, NotADigit]:
    """Return the errors of the images that are refused, by their indices.

    extra: more members of the problem documents
    """
    if scores.is_digit is None:
        return {}
    return {
        i: NotADigit(
            classifier.classes[scores.probabilities[i].argmax()], scores.is_digit[i], extra
        )
        for i in classifier.refused(scores)
    }
