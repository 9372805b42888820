"""What the application counts, and the label values of its requests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import ALL_CLASSES
from service.server.metrics import Counter, Histogram, Metrics

ROUTES = (
    *("/predict", "/livez", "/readyz", "/model", "/metrics", "/openapi.json", "/docs"),
    *("/", "/script.js", "/style.css"),
)
METHODS = ("GET", "POST", "HEAD")
ANSWERED = (200, 304, 400, 401, 404, 405, 408, 413, 414, 415, 417, 422, 431, 500, 503)
STATUSES = tuple(map(str, ANSWERED))
DIGITS = tuple(map(str, ALL_CLASSES))
PROBABILITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
COUNTERS = {
    "digits_pictures": Counter(
        "Pictures by what came of them.", {"outcome": ("read", "refused", "unknown")}
    ),
    "digits_predictions": Counter(
        "Images answered with each digit.", {"digit": DIGITS}
    ),
    "digits_model_reloads": Counter("Newer weights taken into service."),
    "digits_model_failures": Counter("Newer weights that could not be served."),
}
HISTOGRAMS = {
    "digits_top_probability": Histogram(
        "Probability of the digit that was answered.", PROBABILITIES
    )
}


def new_metrics() -> Metrics:
    """Return the metrics of one application, all at zero."""
    return Metrics(ROUTES, METHODS, STATUSES, COUNTERS, HISTOGRAMS)


def count_predictions(
    metrics: Metrics,
    classes: Sequence[int],
    probabilities: npt.NDArray[np.floating[Any]],
) -> None:
    """Count images that were answered with probabilities (n, K)."""
    best = probabilities.argmax(axis=1).tolist()
    top = probabilities.max(axis=1).tolist()
    for i, probability in zip(best, top, strict=True):
        metrics.count("digits_predictions", DIGITS[classes[i]])
        metrics.observe("digits_top_probability", "", probability)
