"""Accuracy of binary logistic regression on pairs of digits and on breast cancer.

python -m benchmarks.binary    (breast cancer requires scikit-learn)
"""

import contextlib
import dataclasses
import importlib.util
import io
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.uploads import MNIST_FOLDER
from service.classifier import load
from training.__main__ import main as job
from training.descent import fit, start, xavier
from training.design.rows import Rows
from training.gradients import by_autograd
from training.losses import binary_cross_entropy
from training.recipes import PIXELS
from training.runs.distributed import Shards

PAIRS, SEEDS, FOLDS = ((0, 1), (3, 8), (4, 9)), range(5), 5


def pair_accuracy(pair: tuple[int, int], seed: int) -> float:
    """Train on the pixels of a pair of digits and return the test accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "digits.safetensors")
        classes = f"{pair[0]},{pair[1]}"
        flags = ["--recipe", "pixels", "--classes", classes, "--seed", str(seed)]
        with contextlib.redirect_stdout(io.StringIO()):
            status = job([*flags, "--data", str(MNIST_FOLDER), "--output", str(output)])
        if status:
            raise SystemExit(status)
        return load(output).evaluation["accuracy"]


def cancer_accuracy(seed: int) -> float:
    """Return the cross-validated accuracy on breast cancer: 569 rows, 30 columns.

    Each column is standardised by its mean and deviation over the training rows.
    """
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import StratifiedKFold

    table, truth = load_breast_cancer(return_X_y=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    n_correct = 0
    for train, test in folds.split(table, truth):
        mean, deviation = table[train].mean(axis=0), table[train].std(axis=0)
        features = (table - mean) / deviation
        phi = torch.from_numpy(np.column_stack([features, np.ones(len(table))])).float()
        labels = torch.from_numpy(truth)
        theta = fitted(phi[train], labels[train], seed)
        is_one = (theta @ phi[test].T)[0] > 0
        n_correct += int((is_one == labels[test]).sum())
    return n_correct / len(table)


def fitted(phi: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
    """Descend the binary cross-entropy of phi (n, D + 1) and labels (n,); return θ (1, D + 1).

    The weight decay equals scikit-learn's default L2 penalty, 1 / (C n) with C = 1.
    """
    rows = Rows(phi, labels)
    recipe = dataclasses.replace(PIXELS, epochs=100, weight_decay=1 / len(rows))
    state = start(xavier(phi.shape[1] - 1, 1, seed), recipe.rule)
    gradient = partial(Shards().mean_gradient, by_autograd(binary_cross_entropy), rows)
    fit(state, gradient, len(rows), recipe, seed)
    return state.theta


def print_accuracy(name: str, accuracies: list[float]) -> None:
    """Print the mean, the standard deviation and the minimum over the seeds."""
    print(
        f"{name:<36}{statistics.mean(accuracies):.4f} ± "
        f"{statistics.stdev(accuracies):.4f}, minimum {min(accuracies):.4f}"
    )


def main() -> None:
    """Measure every pair of digits and, with scikit-learn, breast cancer."""
    torch.set_num_threads(1)
    print(f"accuracy over {len(SEEDS)} seeds, mean ± standard deviation")
    for pair in PAIRS:
        name = f"{pair[0]} against {pair[1]}, test set"
        print_accuracy(name, [pair_accuracy(pair, seed) for seed in SEEDS])
    if importlib.util.find_spec("sklearn"):
        name = f"breast cancer, {FOLDS}-fold cross-validation"
        print_accuracy(name, [cancer_accuracy(seed) for seed in SEEDS])


if __name__ == "__main__":
    main()
