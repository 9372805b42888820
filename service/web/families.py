"""Metric families of the application."""

from collections.abc import Container, Iterable, Sequence

from service.classifier import ALL_CLASSES, Scores
from service.server.metrics import Family, Metrics
from service.web.openapi import describe, operations, statuses

DIGITS = tuple(map(str, ALL_CLASSES))
PROBABILITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
IS_DIGIT = (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.999, 1.0)
FAMILIES = {
    "digits_pictures": Family("Pictures by outcome.", {"outcome": ("read", "refused", "unknown")}),
    "digits_predictions": Family("Predictions by digit.", {"digit": DIGITS}),
    "digits_nondigits": Family("Images that do not look like a digit."),
    "digits_feedback": Family("Corrections by outcome.", {"outcome": ("kept", "failed")}),
    "digits_model_reloads": Family("Reloads of the weights file."),
    "digits_model_failures": Family("Reloads that failed on an invalid file."),
    "digits_top_probability": Family("Probability of the predicted digit.", bounds=PROBABILITIES),
    "digits_is_digit": Family("Probability of being a digit, refused or not.", bounds=IS_DIGIT),
}


def new_metrics() -> Metrics:
    """Return the metrics of one application, all at zero."""
    document = describe()
    paths, methods, _ = zip(*operations(document), strict=True)
    # requests for a version of the model count as those for the model
    labels = {
        "route": [path for path in paths if "{model_version}" not in path],
        "method": ("HEAD", *sorted({*methods})),
    }
    return Metrics({**labels, "status": statuses(document)}, FAMILIES)


def count_predictions(
    metrics: Metrics, classes: Sequence[int], scores: Scores, refused: Container[int]
) -> None:
    """Count n images by the digit that they are answered with, or as refused (indices)."""
    best = scores.probabilities.argmax(axis=1).tolist()
    top = scores.probabilities.max(axis=1).tolist()
    for i, (k, probability) in enumerate(zip(best, top, strict=True)):
        if i in refused:
            metrics.count("digits_nondigits")
            continue
        metrics.count("digits_predictions", DIGITS[classes[k]])
        metrics.observe(probability, "digits_top_probability")
    if scores.is_digit is not None:
        for is_digit in scores.is_digit.tolist():
            metrics.observe(is_digit, "digits_is_digit")


def count_unlike(metrics: Metrics, is_digit: Iterable[float]) -> None:
    """Count the parts of a number that do not look like digits, by P(digit) of each."""
    for probability in is_digit:
        metrics.count("digits_nondigits")
        metrics.observe(probability, "digits_is_digit")
