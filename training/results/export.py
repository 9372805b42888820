"""Export of trained weights, with an evaluation of the exported file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.classifier import Classifier, InvalidWeights, load, save
from training.data.atomic import replacing
from training.data.dataset import Digits
from training.results.evaluation import evaluate, probabilities, refused


def to_classifier(
    theta: Tensor,
    classes: tuple[int, ...],
    features: str,
    training: Mapping[str, Any],
    centre: Tensor | None = None,
    temperature: float = 1.0,
) -> Classifier:
    """Convert θ (K, D + 1) to a classifier.

    The centre μ (D + 1,) of the features and the temperature are folded in: W / T,
    (b - W μ) / T. The single row of a binary model becomes the second of two, the first
    being zero: σ(z) = softmax([0, z])_1. Raises InvalidWeights if θ is not finite.
    """
    theta = theta.cpu()
    if len(theta) == 1:
        theta = torch.vstack([torch.zeros_like(theta), theta])
    theta = theta / temperature
    weight, bias = theta[:, :-1], theta[:, -1]
    if centre is not None:
        bias = bias - weight @ centre[:-1].cpu()
    return Classifier(weight.T.numpy(), bias.numpy(), classes, features, training)


def to_theta(classifier: Classifier, centre: Tensor | None = None) -> Tensor:
    """Convert a classifier to the θ (K, D + 1) from which to_classifier makes it.

    The centre μ (D + 1,) of the features is taken out of the biases again: b + W μ. Two
    classes become one row, the difference of their two.
    """
    weight, bias = torch.from_numpy(classifier.weight).T, torch.from_numpy(classifier.bias)
    if centre is not None:
        bias = bias + weight @ centre[:-1].cpu()
    theta = torch.hstack([weight, bias[:, None]])
    return theta[1:] - theta[:1] if len(theta) == 2 else theta


def of_classes(classifier: Classifier, classes: tuple[int, ...]) -> Classifier:
    """Return the classifier of some of the classes; raise InvalidWeights if one is unknown."""
    unknown = sorted(set(classes) - set(classifier.classes))
    if unknown:
        raise InvalidWeights(f"the initial weights have no class {unknown[0]}")
    k = [classifier.classes.index(label) for label in classes]
    own = classifier.detector
    if own is not None:
        own = dataclasses.replace(own, weight=own.weight[k], scale=own.scale[k], bias=own.bias[k])
    weight, bias = classifier.weight[:, k], classifier.bias[k]
    return dataclasses.replace(classifier, weight=weight, bias=bias, classes=classes, detector=own)


def export(classifier: Classifier, test: Digits, data: str, path: Path) -> Classifier:
    """Save a classifier with its evaluation on the test digits, and return it.

    The saved file is read back as the service reads it and then evaluated. `path` is
    replaced atomically, and only after the evaluation.
    """
    with replacing(path) as partial:
        save(classifier, partial)
        saved = load(partial)
        p, is_refused = probabilities(saved, test.images), refused(saved, test.images)
        figures = evaluate(p, test.labels, is_refused)
        evaluation = {"data": data, **figures}
        save(dataclasses.replace(classifier, evaluation=evaluation), partial)
        return load(partial)
