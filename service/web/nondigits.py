"""Refusal of images that do not look like a digit."""

from service.classifier import Classifier, Scores
from service.web.problems import Refused


def refusals(classifier: Classifier, scores: Scores, **members: object) -> dict[int, Refused]:
    """Return the errors of the images that are refused, by their indices.

    members: more members of the problem documents
    """
    if scores.is_digit is None:
        return {}
    return {
        i: Refused(
            "this does not look like a digit",
            is_digit=float(f"{scores.is_digit[i]:.7g}"),  # with the digits of a reply
            digit=classifier.classes[scores.probabilities[i].argmax()],
            **members,
        )
        for i in classifier.refused(scores)
    }
