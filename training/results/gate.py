"""The gate that weights trained on corrections must pass."""

from service.classifier import Classifier
from training.data.dataset import Digits
from training.results.evaluation import probabilities, refused

TOLERANCE = 0.001  # of the accuracy on the test set, which varies by as much with the seed


class WorseWeights(RuntimeError):
    """Trained weights that are worse than the initial ones."""


def n_right(classifier: Classifier, digits: Digits) -> int:
    """Return how many digits are read right, and not refused."""
    right = probabilities(classifier, digits.images).argmax(axis=1) == digits.labels
    return int((right & ~refused(classifier, digits.images)).sum())


def refuse_worse(new: Classifier, initial: Classifier, test: Digits, older: Digits) -> None:
    """Raise WorseWeights if a classifier reads fewer digits right than the initial one.

    older: corrected digits that the initial weights may have been trained on; none may
    be lost. Of the test digits, a share TOLERANCE may be.
    """
    for what, digits, lost in (
        ("the test set", test, TOLERANCE * len(test)),
        ("older corrections", older, 0),
    ):
        if len(digits):
            before, after = n_right(initial, digits), n_right(new, digits)
            if after < before - lost:
                raise WorseWeights(
                    f"nothing was saved: {after:,} of {len(digits):,} digits of {what} are read "
                    f"right, {before:,} by the initial weights"
                )
