"""The detector of digits, changed so that it accepts corrected ones."""

import dataclasses

import numpy as np

from service.classifier import Classifier, Detector
from service.features import FEATURES
from training.data.dataset import Digits
from training.runs.detection import INT8_MAX

MARGIN = 3.0  # log odds above the threshold: other digits of the style are less likely
N_PASSES = 5  # over the corrections
N_KNOWN = 1_000  # digits whose mean is kept


def accepting(
    detector: Detector, classifier: Classifier, corrected: Digits, known: Digits
) -> Detector:
    """Return a detector that accepts corrected digits, changed as little as that takes.

    Each regression takes passive-aggressive steps (Crammer et al., "Online
    passive-aggressive algorithms", 2006): a ← a + τ x, τ = (m - a x) / ‖x‖². x = φ - μ is
    centred at the mean of known digits, whose log odds stay.
    """
    features = FEATURES[classifier.features]
    mean = features(known.images[:N_KNOWN]).mean(axis=0)
    x = features(corrected.images) - mean
    weights, biases = map(np.array, zip(*detector.models, strict=True))
    at_mean = biases + weights @ mean
    least = np.log(detector.threshold / (1 - detector.threshold)) + MARGIN
    for _ in range(N_PASSES):
        for phi, k in zip(x, corrected.labels, strict=True):
            lacking = max(0, least - (phi @ weights[k] + at_mean[k]))
            weights[k] += lacking / (phi @ phi) * phi
    scale = np.abs(weights).max(axis=1) / INT8_MAX
    rounded = np.rint(weights / scale[:, np.newaxis])
    bias = at_mean - (rounded * scale[:, np.newaxis]) @ mean
    return dataclasses.replace(
        detector,
        weight=rounded.astype(np.int8),
        scale=scale.astype(np.float32),
        bias=bias.astype(np.float32),
    )
