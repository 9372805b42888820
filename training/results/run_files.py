"""What a run left: its weights file, and the curve beside it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.classifier import Classifier, load
from training.data.dataset import InvalidData
from training.recipes import METRICS


class Trained(NamedTuple):
    """A weights file, what is in it, and the points of its curve, if it is there."""

    path: Path
    classifier: Classifier
    curve: list[dict[str, Any]]


def read_trained(paths: Sequence[Path]) -> list[Trained]:
    """Read runs by their weights files; raise InvalidData for the same run twice."""
    runs: dict[str, Trained] = {}
    for path in paths:
        classifier, curve = load(path), read_curve(path.with_name(METRICS))
        version = classifier.version
        if curve and curve[-1].get("model") != version:
            curve = []  # of another run into the same folder
        run = Trained(path, classifier, curve)
        if version in runs:
            raise InvalidData(
                f"{path}: the same run as {runs[version].path} ({version})"
            )
        runs[version] = run
    return list(runs.values())


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Read the points of metrics.jsonl: none where there is no such file."""
    if not path.exists():
        return []
    points = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            points.append(_point(line))
        except (
            ArithmeticError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise InvalidData(
                f"{path}, line {number}: not of the curve of a run ({error!r})"
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
