"""Predictions of a classifier and their metrics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import Images

if TYPE_CHECKING:  # Rows import torch, which the metrics do not need
    from training.design.rows import Rows

BLOCK = 1000  # images that are classified at a time
N_BINS = 15
METRIC_NAMES = {
    "accuracy": "accuracy",
    "refused": "share of refused digits",
    "nll": "negative log-likelihood, nats",
    "brier": "Brier score",
    "ece": f"expected calibration error, {N_BINS} bins",
}

Confusion = Sequence[Sequence[int]]  # counts [K true][K predicted]
Table = tuple[Sequence[object], Sequence[Sequence[object]]]  # the head and the rows


def logits(classifier: Classifier, rows: "Rows") -> npt.NDArray[np.float32]:
    """Compute the logits (n, K) of rows of the classifier's own features."""
    blocks = (np.ascontiguousarray(phi[:, :-1]) for phi in rows.feature_blocks())
    return np.concatenate([classifier.logits(block) for block in blocks])


def probabilities(classifier: Classifier, images: Images) -> npt.NDArray[np.float64]:
    """Compute the probabilities (n, K) of images (n, 28, 28)."""
    blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
    return np.concatenate([classifier.predict_proba(block) for block in blocks])


def digit_probabilities(classifier: Classifier, images: Images) -> npt.NDArray[np.float64]:
    """Compute P(digit) (n,) of images (n, 28, 28): 1 without a detector."""
    blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
    if classifier.detector is None:
        return np.ones(len(images))
    scores = [classifier.score(block).is_digit for block in blocks]
    return np.concatenate([each for each in scores if each is not None])


def refused(classifier: Classifier, images: Images) -> npt.NDArray[np.bool_]:
    """Return which images (n, 28, 28) the service refuses as no digits: (n,)."""
    threshold = classifier.detector.threshold if classifier.detector else 0.0
    return digit_probabilities(classifier, images) < threshold


def evaluate(
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[Any],
    refused: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Compute the metrics of probabilities (n, K) for labels (n,) in 0..K-1.

    refused (n,): rows that are answered with no digit. They count as errors in the
    accuracy; all other metrics are of the answers.

    n: number of rows; the others except `confusion` are means
    refused: share of the refused rows
    nll: -log p of the true class, in nats
    brier: Σ_k (p_k - y_k)², y one-hot    Brier, 1950
    ece: Σ_b n_b / n |accuracy_b - confidence_b| over 15 equal bins of the largest
        probability    Guo et al., "On calibration of modern neural networks", 2017
    confusion: counts [K true][K predicted]
    """
    n = len(labels)
    if refused is None:
        refused = np.zeros(n, bool)
    probabilities, labels = probabilities[~refused], labels[~refused]
    n_answers, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    true = probabilities[np.arange(n_answers), labels]
    one_hot = np.eye(n_classes)[labels]
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    return {
        "n": n,
        "accuracy": float(right.sum() / n),
        "refused": float(refused.mean()),
        "nll": float(-np.log(np.maximum(true, np.finfo(float).tiny)).sum() / max(n_answers, 1)),
        "brier": float(((probabilities - one_hot) ** 2).sum() / max(n_answers, 1)),
        "ece": _ece(probabilities.max(axis=1), right),
        "confusion": confusion.tolist(),
    }


def precision_and_recall(
    confusion: Confusion,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the precision and the recall of each class: (K,), (K,).

    0 for a class that was never predicted, or that has no rows.
    """
    counts = np.array(confusion)
    right = np.diag(counts)
    predicted, true = counts.sum(axis=0), counts.sum(axis=1)
    return right / np.maximum(predicted, 1), right / np.maximum(true, 1)


def named_metrics(figures: Mapping[str, Any]) -> Table:
    """Return the metrics of `evaluate`, by their full names, as a table."""
    head = (f"{figures['n']:,} rows of {figures['data']}", "")
    return head, [(text, f"{figures[k]:.4f}") for k, text in METRIC_NAMES.items()]


def by_digit(classes: Sequence[int], confusion: Confusion) -> Table:
    """Return the precision and the recall of each class as a table."""
    digits = zip(classes, confusion, *precision_and_recall(confusion), strict=True)
    rows = [(k, sum(row), f"{p:.4f}", f"{r:.4f}") for k, row, p, r in digits]
    return ("digit", "rows", "precision", "recall"), rows


def bins_of(confidence: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the index of the calibration bin of each confidence (n,) in [0, 1]."""
    return np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)


def _ece(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    # n_b accuracy_b - n_b confidence_b is one sum over the bin
    gaps = np.bincount(bins_of(confidence), right - confidence, minlength=N_BINS)
    return float(np.abs(gaps).sum() / max(len(right), 1))
