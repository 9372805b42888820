"""CPU time of an epoch, and to 92 % accuracy, compared with other training loops.

python -m benchmarks.training    (JAX and scikit-learn too, if they are installed)

OPENBLAS_CORETYPE selects the kernels of numpy's OpenBLAS; the default is the processor.
"""

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

# one thread each; read when numpy and JAX are imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

from benchmarks.loops import BATCH, JaxScan, Learned, article, usual
from benchmarks.rounds import interleave, ratios, spread
from benchmarks.uploads import find_mnist
from service.features import pixels
from training.data.dataset import DataSet, Digits
from training.data.synthetic import draw_digits
from training.descent import fit, start, xavier
from training.design.design_matrix import design_matrix
from training.design.rows import Rows
from training.gradients import gradients_of
from training.recipes import PIXELS, RECIPES, Recipe
from training.runs.distributed import Shards

ROUNDS, GOAL_ROUNDS, N = 7, 5, 50_000
ARTICLE = RECIPES["article"]
GOAL = 0.92  # test accuracy
ITERATIONS = (20, 30, 40, 50, 60, 80, 100)  # of lbfgs, tried until the goal is reached


def measure() -> None:
    """Print both comparisons, in CPU time of one thread."""
    torch.set_num_threads(1)
    data = find_mnist() or draw_digits()
    rows = data.train.rows(0, N)
    print(f"{len(rows):,} rows of {data.name}, torch {torch.__version__}")
    kernels = {library.get("architecture") for library in threadpool_info()} - {None}
    print("OpenBLAS kernels:", *kernels)
    _epochs(rows, data.test)
    _to_the_goal(rows, data)


def _epochs(rows: Digits, test: Digits) -> None:
    """Time one epoch from the same initial weights: batches in order, float32."""
    features = torch.from_numpy(pixels(rows.images))
    labels = torch.from_numpy(rows.labels.astype(np.int64))
    float_rows = Rows(torch.hstack([features, torch.ones(len(rows), 1)]), labels)
    byte_rows = _byte_rows(rows)
    weight = xavier(features.shape[1], 10, seed=0)[:, :-1].T.contiguous()

    def ours(gradient: str, of: Rows, seed: int | None = None) -> Callable[[], Learned]:
        recipe = replace(ARTICLE, epochs=1, shuffle=seed is not None)

        def run() -> Learned:
            return _fitted(gradient, of, weight, recipe, seed or 0)

        return run

    ways: dict[str, Callable[[], Learned]] = {
        "the article's loop": lambda: article(features, labels, weight),
        "nn.Linear, SGD, DataLoader shuffled": lambda: usual(features, labels, weight),
        "ours, autograd": ours("autograd", float_rows),
        "ours, closed form": ours("closed-form", float_rows),
        "ours, autograd, bytes shuffled": ours("autograd", byte_rows, 0),
        "ours, closed form, bytes shuffled": ours("closed-form", byte_rows, 0),
    }
    if importlib.util.find_spec("jax"):
        for transposed, name in ((False, "(D, K)"), (True, "(K, D)")):
            scan = JaxScan(features, labels, transposed)
            way = partial(scan, features, labels, weight)
            ways[f"JAX, jitted scan, weights {name}"] = way
    images = torch.from_numpy(pixels(test.images))
    accuracy = {name: _accuracy(way(), images, test) for name, way in ways.items()}
    times = interleave(list(ways.values()), ROUNDS)
    print(f"median (range) of {ROUNDS} interleaved epochs; speed = others' time / time")
    heads = ("CPU, µs per step", "speed, x article", "x usual")
    print(f"{'':<36}" + "".join(f"{head:<24}" for head in heads) + "test accuracy")
    n_steps = -(-len(rows) // BATCH)
    for name, seconds in zip(ways, times, strict=True):
        cells = [spread((second / n_steps * 1e6 for second in seconds), ".0f")]
        cells += [spread(ratios(other, seconds)) for other in times[:2]]
        row = "".join(f"{cell:<24}" for cell in cells)
        print(f"{name:<36}{row}{accuracy[name]:.4f}")


def _to_the_goal(rows: Digits, data: DataSet) -> None:
    """Time from loaded pixels to weights that reach the goal."""
    images = torch.from_numpy(pixels(data.test.images))

    recipe = replace(PIXELS, epochs=2, learning_rate=1.0)

    def ours(gradient: str) -> Learned:
        weight = xavier(images.shape[1], 10, seed=0)[:, :-1].T
        return _fitted(gradient, _byte_rows(rows), weight, recipe, 0)

    ways: dict[str, Callable[[], Learned]] = {
        f"ours, {name}": partial(ours, name) for name in gradients_of(10)
    }
    if importlib.util.find_spec("sklearn"):
        n = next(
            (n for n in ITERATIONS if _accuracy(_lbfgs(rows, n), images, data.test) >= GOAL),
            ITERATIONS[-1],
        )
        ways[f"scikit-learn, lbfgs, {n} iterations"] = partial(_lbfgs, rows, n)
    accuracy = {name: _accuracy(way(), images, data.test) for name, way in ways.items()}
    times = interleave(list(ways.values()), GOAL_ROUNDS)
    last = next(reversed(ways))
    print(f"\nfrom pixels to {GOAL:.1%}, median (range) of {GOAL_ROUNDS} interleaved runs")
    print(f"{'':<36}{'CPU, s':<24}{'speed, x ' + last:<44}test accuracy")
    for name, seconds in zip(ways, times, strict=True):
        cells = f"{spread(seconds, '.3f'):<24}{spread(ratios(times[-1], seconds)):<44}"
        print(f"{name:<36}{cells}{accuracy[name]:.4f}")


def _fitted(gradient: str, rows: Rows, weight: Tensor, recipe: Recipe, seed: int) -> Learned:
    theta = torch.hstack([weight.T, torch.zeros(weight.shape[1], 1)])
    state = start(theta, recipe.rule)
    of_batch = partial(Shards().mean_gradient, gradients_of(10)[gradient], rows)
    fit(state, of_batch, len(rows), recipe, seed)
    return state.theta[:, :-1].T, state.theta[:, -1]


def _byte_rows(rows: Digits) -> Rows:
    return design_matrix([rows], "pixels", 0, Path(tempfile.gettempdir()))


def _lbfgs(rows: Digits, n_iterations: int) -> Learned:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning that it has not converged
        model = LogisticRegression(max_iter=n_iterations)
        model.fit(pixels(rows.images), rows.labels)
    return torch.from_numpy(model.coef_.T), torch.from_numpy(model.intercept_)


def _accuracy(learned: Learned, features: Tensor, test: Digits) -> float:
    weight, bias = (part.float() for part in learned)
    read = (features @ weight + bias).argmax(dim=1).numpy()
    return float((read == test.labels).mean())


if __name__ == "__main__":
    measure()
