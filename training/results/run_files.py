"""Finished runs: a weights file and the training curve beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.classifier import Classifier, load
from training.data.dataset import InvalidData
from training.recipes import DEFAULTS, METRICS

Curve = Sequence[Mapping[str, Any]]  # points: step, loss, learning_rate, validation


class Trained(NamedTuple):
    """A weights file, its classifier and its training curve, empty if missing."""

    path: Path
    classifier: Classifier
    curve: Curve

    def training(self) -> dict[str, Any]:
        """Return the training metadata, with the defaults that a file leaves out."""
        return {**DEFAULTS, **self.classifier.training}


def read_trained(paths: Sequence[Path]) -> list[Trained]:
    """Read runs by their weights files; raise InvalidData if two are the same run."""
    runs: dict[str, Trained] = {}
    for path in paths:
        if not path.exists():
            raise InvalidData(f"{path}: no such file; train first, or name a weights file")
        classifier, curve = load(path), read_curve(path.with_name(METRICS))
        version = classifier.version
        if curve and curve[-1].get("model") != version:
            curve = []  # a later run wrote its curve into the same folder
        if version in runs:
            raise InvalidData(f"{path}: the same run as {runs[version].path} ({version})")
        runs[version] = Trained(path, classifier, curve)
    return list(runs.values())


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Read the points of metrics.jsonl; return an empty list if there is no file."""
    if not path.exists():
        return []
    points = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            points.append(_point(line))
        except Exception as error:  # any error is possible in a damaged line
            raise InvalidData(
                f"{path}, line {number}: not a point of a training curve ({error!r})"
            ) from error
    return points


def _point(line: str) -> dict[str, Any]:
    point = json.loads(line)
    numbers = [point["step"], point["learning_rate"], point["loss"]]
    if "validation" in point:
        numbers.append(point["validation"]["nll"])
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{numbers} are not all finite")
    return point
