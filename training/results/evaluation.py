"""How good probabilities are: accuracy, NLL, Brier score, calibration, confusion."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

N_BINS = 15
MEASURES = {  # the names of what is measured, and what they are for people
    "accuracy": "accuracy",
    "nll": "negative log-likelihood, nats",
    "brier": "Brier score",
    "ece": f"expected calibration error, {N_BINS} bins",
}


def evaluate(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[Any]
) -> dict[str, Any]:
    """Compare probabilities (n, K) with labels (n,) in 0..K-1; all but `n` are means.

    nll: -log p of the true class, in nats
    brier: Σ_k (p_k - y_k)², y one-hot    Brier, 1950
    ece: Σ_b n_b / n |accuracy_b - confidence_b| over 15 equal bins of the largest
        probability    Guo et al., "On calibration of modern neural networks", 2017
    confusion: counts [K true][K predicted]
    """
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    true = probabilities[np.arange(n), labels]
    one_hot = np.eye(n_classes)[labels]
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    return {
        "n": n,
        "accuracy": float(right.mean()),
        "nll": float(-np.log(np.maximum(true, np.finfo(float).tiny)).mean()),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "ece": _ece(probabilities.max(axis=1), right),
        "confusion": confusion.tolist(),
    }


def precision_and_recall(
    confusion: Sequence[Sequence[int]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the share of each class's readings, and of its rows, that are right: (K,).

    Of a class that was never read, or has no rows, it is 0.
    """
    counts = np.array(confusion)
    right = np.diag(counts)
    read, true = counts.sum(axis=0), counts.sum(axis=1)
    return right / np.maximum(read, 1), right / np.maximum(true, 1)


def _ece(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    # n_b accuracy_b - n_b confidence_b is one sum over the bin
    gaps = np.bincount(bins, right - confidence, minlength=N_BINS)
    return float(np.abs(gaps).sum() / len(right))
