"""Accuracy of the recipes on MNIST's test set, over five seeds.

python -m benchmarks.seeds
"""

import contextlib
import io
import statistics
import sys
import tempfile
from pathlib import Path

from service.classifier import load
from training.__main__ import main

SEEDS = range(5)
RUNS: dict[str, list[str]] = {
    "default": [],
    "pixels": ["--recipe", "pixels"],
    "article": ["--recipe", "article"],
    "3 against 8, pixels": ["--recipe", "pixels", "--classes", "3,8"],
}


def measure() -> None:
    """Train every recipe with every seed and print one row per recipe."""
    print(f"accuracy, mean NLL and mean ECE on MNIST's test set, {len(SEEDS)} seeds")
    print(f"{'recipe':<20}{'mean':>8}{'std':>8}{'min':>8}{'NLL':>8}{'ECE':>8}")
    for name, flags in RUNS.items():
        runs = [_evaluation([*flags, "--seed", str(seed)]) for seed in SEEDS]
        accuracy = [run["accuracy"] for run in runs]
        figures = (
            statistics.mean(accuracy),
            statistics.stdev(accuracy),
            min(accuracy),
            statistics.mean(run["nll"] for run in runs),
            statistics.mean(run["ece"] for run in runs),
        )
        print(f"{name:<20}" + "".join(f"{figure:>8.4f}" for figure in figures))


def _evaluation(flags: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.safetensors"
        with contextlib.redirect_stdout(io.StringIO()):
            status = main([*flags, "--output", str(path)])
        if status:
            sys.exit(status)
        return dict(load(path).evaluation)


if __name__ == "__main__":
    measure()
