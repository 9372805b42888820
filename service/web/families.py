"""Metric families of the application."""

from collections.abc import Sequence

from service.classifier import ALL_CLASSES, Floats
from service.server.metrics import Family, Metrics
from service.web.openapi import describe, operations, statuses

DIGITS = tuple(map(str, ALL_CLASSES))
PROBABILITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
FAMILIES = {
    "digits_pictures": Family("Pictures by outcome.", {"outcome": ("read", "refused", "unknown")}),
    "digits_predictions": Family("Predictions by digit.", {"digit": DIGITS}),
    "digits_model_reloads": Family("Reloads of the weights file."),
    "digits_model_failures": Family("Reloads that failed on an invalid file."),
    "digits_top_probability": Family("Probability of the predicted digit.", bounds=PROBABILITIES),
}


def new_metrics() -> Metrics:
    """Return the metrics of one application, all at zero."""
    document = describe()
    paths, methods, _ = zip(*operations(document), strict=True)
    labels = {"route": paths, "method": ("HEAD", *sorted({*methods}))}
    return Metrics({**labels, "status": statuses(document)}, FAMILIES)


def count_predictions(metrics: Metrics, classes: Sequence[int], probabilities: Floats) -> None:
    """Count the predictions of probabilities (n, K)."""
    best = probabilities.argmax(axis=1).tolist()
    top = probabilities.max(axis=1).tolist()
    for i, probability in zip(best, top, strict=True):
        metrics.count("digits_predictions", DIGITS[classes[i]])
        metrics.observe(probability, "digits_top_probability")
