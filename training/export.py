"""What was learned becomes a weights file, evaluated as it will be served."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from service.classifier import Classifier, load, save
from training.data import Digits
from training.descent import Parameters
from training.evaluation import evaluate
from training.files import replacing


def to_classifier(
    parameters: Parameters,
    classes: tuple[int, ...],
    features: str,
    training: Mapping[str, Any],
    temperature: float = 1.0,
) -> Classifier:
    """Turn parameters into a classifier; raise InvalidWeights if they are not finite.

    The centre of the features and the temperature are folded in: W / T, (b - μ W) / T.
    The binary model's one weight vector becomes the second of two columns, the first
    being zero: σ(z) = softmax([0, z])_1.
    """
    weight = parameters.weight.detach() / temperature
    centre = parameters.centre.expand(weight.shape[0])
    bias = parameters.bias.detach() / temperature - centre @ weight
    if bias.ndim == 0:
        weight = torch.stack([torch.zeros_like(weight), weight], dim=1)
        bias = torch.stack([torch.zeros_like(bias), bias])
    return Classifier(weight.numpy(), bias.numpy(), classes, features, training)


def export(classifier: Classifier, test: Digits, data: str, path: Path) -> Classifier:
    """Save a classifier with its evaluation on the test digits; give what was saved.

    The evaluation is that of the file, read back as the service reads it. `path` is
    replaced whole, after all this has gone well.
    """
    with replacing(path) as partial:
        save(classifier, partial)
        figures = evaluate(load(partial).predict_proba(test.images), test.labels)
        save(
            dataclasses.replace(classifier, evaluation={"data": data, **figures}),
            partial,
        )
        return load(partial)
