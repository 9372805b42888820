"""An epoch, and the time to 92.0 %, beside the loops and libraries others train with.

python -m benchmarks.training    (JAX and scikit-learn too, where they are installed)

numpy's OpenBLAS multiplies as OPENBLAS_CORETYPE says; without it, as the processor can.
"""

import importlib.util
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

# one thread each, and before numpy and JAX are loaded
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

from benchmarks.loops import BATCH, RATE, JaxScan, Learned, article, usual
from benchmarks.uploads import find_mnist
from service.features import pixels
from training.data.dataset import DataSet, Digits
from training.data.synthetic import draw_digits
from training.descent import fit, xavier
from training.design.design_matrix import design_matrix
from training.design.rows import Rows
from training.gradients import GRADIENTS
from training.runs.state import begin

ROUNDS, N = 7, 50_000
GOAL = 0.92  # of the test digits
ITERATIONS = (20, 30, 40, 50, 60, 80, 100)  # of lbfgs, until the goal is reached


def measure() -> None:
    """Print the ratios, medians of interleaved rounds of one thread's CPU time."""
    torch.set_num_threads(1)
    data = find_mnist() or draw_digits()
    rows = data.train.rows(0, N)
    print(f"{len(rows):,} rows of {data.name}, torch {torch.__version__}")
    kernels = {library.get("architecture") for library in threadpool_info()} - {None}
    print("OpenBLAS multiplies as on", *kernels)
    _epochs(rows, data.test)
    _to_the_goal(rows, data)


def _epochs(rows: Digits, test: Digits) -> None:
    """Measure one epoch from the same start: batches in order, float32 pixels."""
    features = torch.from_numpy(pixels(rows.images))
    labels = torch.from_numpy(rows.labels.astype(np.int64))
    float_rows = Rows(torch.hstack([features, torch.ones(len(rows), 1)]), labels)
    byte_rows = _byte_rows(rows)
    weight = xavier(features.shape[1], 10, seed=0)[:, :-1].T.contiguous()

    def ours(gradient: str, of: Rows, seed: int | None = None) -> Callable[[], Learned]:
        def run() -> Learned:
            return _fitted(gradient, of, weight, 1, RATE, "constant", seed)

        return run

    ways: dict[str, Callable[[], Learned]] = {
        "the article's loop, as written": lambda: article(features, labels, weight),
        "nn.Linear, SGD, DataLoader shuffled": lambda: usual(features, labels, weight),
        "ours, autograd": ours("autograd", float_rows),
        "ours, closed form": ours("closed-form", float_rows),
        "ours, autograd, bytes shuffled": ours("autograd", byte_rows, 0),
        "ours, closed form, bytes shuffled": ours("closed-form", byte_rows, 0),
    }
    if importlib.util.find_spec("jax"):
        for transposed, name in ((False, "(D, K)"), (True, "(K, D)")):
            scan = JaxScan(features, labels, transposed)
            ways[f"JAX, jitted scan, weights {name}"] = lambda scan=scan: scan(
                features, labels, weight
            )
    images = torch.from_numpy(pixels(test.images))
    accuracy = {name: _accuracy(way(), images, test) for name, way in ways.items()}
    rounds = [[_cpu(way) for way in ways.values()] for _ in range(ROUNDS)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    print(f"{'one epoch':<36}{'µs a step':>10}{'x article':>10}{'x usual':>10}  test")
    n_steps = -(-len(rows) // BATCH)
    for name, seconds in zip(ways, medians, strict=True):
        ratios = (first / seconds for first in medians[:2])
        print(
            f"{name:<36}{seconds / n_steps * 1e6:>10.0f}"
            + "".join(f"{ratio:>10.2f}" for ratio in ratios)
            + f"  {accuracy[name]:.4f}"
        )


def _to_the_goal(rows: Digits, data: DataSet) -> None:
    """Measure from the pixels that were loaded to weights that reach the goal."""
    images = torch.from_numpy(pixels(data.test.images))

    def ours(gradient: str) -> Learned:
        start = xavier(images.shape[1], 10, seed=0)[:, :-1].T
        return _fitted(gradient, _byte_rows(rows), start, 2, 1.0, "linear", 0)

    ways: dict[str, Callable[[], Learned]] = {
        f"ours, {name}": lambda name=name: ours(name) for name in GRADIENTS
    }
    if importlib.util.find_spec("sklearn"):
        n = next(
            (
                n
                for n in ITERATIONS
                if _accuracy(_lbfgs(rows, n), images, data.test) >= GOAL
            ),
            ITERATIONS[-1],
        )
        ways[f"scikit-learn, lbfgs, {n} iterations"] = lambda: _lbfgs(rows, n)
    print(f"\n{'pixels to ' + format(GOAL, '.1%'):<36}{'s':>10}{'x':>10}  test")
    accuracy = {name: _accuracy(way(), images, data.test) for name, way in ways.items()}
    rounds = [[_cpu(way) for way in ways.values()] for _ in range(3)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    for name, seconds in zip(ways, medians, strict=True):
        ratio = medians[-1] / seconds
        print(f"{name:<36}{seconds:>10.3f}{ratio:>10.1f}  {accuracy[name]:.4f}")


def _fitted(
    gradient: str,
    rows: Rows,
    weight: Tensor,
    epochs: int,
    rate: float,
    schedule: str,
    seed: int | None,
) -> Learned:
    run = begin(torch.hstack([weight.T, torch.zeros(weight.shape[1], 1)]), "descent")
    fit(
        run,
        GRADIENTS[gradient][False],
        rows,
        learning_rate=rate,
        batch_size=BATCH,
        epochs=epochs,
        schedule=schedule,
        seed=seed,
    )
    return run.theta[:, :-1].T, run.theta[:, -1]


def _byte_rows(rows: Digits) -> Rows:
    return design_matrix([rows], "pixels", 0, Path(tempfile.gettempdir()))


def _lbfgs(rows: Digits, n_iterations: int) -> Learned:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        model = LogisticRegression(max_iter=n_iterations)
        model.fit(pixels(rows.images), rows.labels)
    return torch.from_numpy(model.coef_.T), torch.from_numpy(model.intercept_)


def _accuracy(learned: Learned, features: Tensor, test: Digits) -> float:
    weight, bias = (part.float() for part in learned)
    read = (features @ weight + bias).argmax(dim=1).numpy()
    return float((read == test.labels).mean())


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    measure()
