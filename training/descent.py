"""Gradient descent: batches, the step, the loop."""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.design.rows import Batch, Rows
from training.gradients import Gradient
from training.rules import RULES, decay
from training.runs.distributed import Shards
from training.runs.state import Run
from training.schedules import factor

MAX_SEED = 2**63
EPOCH_STRIDE = 0x9E3779B97F4A7C15  # odd: the epochs of nearby seeds fall far apart
WINDOW = 8  # blocks that are shuffled together, where not all rows are


ONE_SHARD = Shards()


class Step(NamedTuple):
    """One step of the loop, as it is told to a watcher: counts from 1, loss in nats."""

    epoch: int
    number: int
    n_steps: int
    loss: float
    learning_rate: float
    ends_epoch: bool


def xavier(n_features: int, n_outputs: int, seed: int) -> Tensor:
    """Draw θ (K, D + 1): weights from a normal of variance 1 / D, and zero biases.

    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010: a variance that lets a sum over D inputs keep their scale.
    J is convex here, so that any start leads to the same place.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_outputs, n_features, generator=generator)
    return torch.hstack([weight / math.sqrt(n_features), torch.zeros(n_outputs, 1)])


def batches(
    n: int, batch_size: int, generator: torch.Generator | None, block: int | None = None
) -> Iterator[Batch]:
    """Cut 0..n-1 into batches: ranges in order, or indices shuffled by a generator.

    With `block`, those are shuffled within windows of some blocks of so many rows, and
    the blocks among each other: what is read from a disk is near together.
    """
    if generator is None:
        yield from (slice(i, min(i + batch_size, n)) for i in range(0, n, batch_size))
        return
    rest = torch.empty(0, dtype=torch.int64)
    for window in _windows(n, generator, block or n):
        order = torch.cat([rest, window])
        n_whole = len(order) // batch_size
        yield from order[: n_whole * batch_size].view(n_whole, batch_size)
        rest = order[n_whole * batch_size :]
    if len(rest):
        yield rest


def _windows(n: int, generator: torch.Generator, block: int) -> Iterator[Tensor]:
    """Draw the indices of one window of blocks after another."""
    if block >= n:
        yield torch.randperm(n, generator=generator)
        return
    starts = torch.randperm(math.ceil(n / block), generator=generator) * block
    for window in starts.split(WINDOW):
        rows = torch.cat([torch.arange(s, min(s + block, n)) for s in window.tolist()])
        yield rows[torch.randperm(len(rows), generator=generator)]


def step(run: Run, g: Tensor, rate: float, rule: str, weight_decay: float) -> None:
    """Move θ once by the rule, given the gradient g; the biases do not decay."""
    run.step += 1
    if weight_decay:
        decay(run.theta[:, :-1], rate, weight_decay)
    RULES[rule].update(run.theta, g, rate, run.step, *run.memory)


@np.errstate(over="ignore", invalid="ignore")  # a loss that is no number tells it
def fit(
    run: Run,
    gradient: Gradient,
    rows: Rows,
    *,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    schedule: str = "constant",
    warm_up: int = 0,
    rule: str = "descent",
    weight_decay: float = 0.0,
    average: bool = False,
    seed: int | None,
    shards: Shards = ONE_SHARD,
    watch: Callable[[Step], None] = lambda step: None,
) -> None:
    """Minimise the mean loss over the rows, from where the run stands to its last step.

    The order of an epoch depends on the seed and the epoch alone; without a seed it is
    the order of the rows. With `average`, run.mean becomes the mean of θ over the last
    half of the steps. Polyak, Juditsky, "Acceleration of stochastic approximation by
    averaging", 1992
    """
    per_epoch = math.ceil(len(rows) / batch_size)
    n_steps = epochs * per_epoch
    for epoch in range(run.step // per_epoch + 1, epochs + 1):
        order = batches(len(rows), batch_size, _generator(seed, epoch), rows.block)
        for batch in islice(order, run.step % per_epoch, None):
            rate = learning_rate * factor(schedule, run.step, n_steps, warm_up)
            j, g = shards.mean_gradient(gradient, run.theta, rows, batch)
            step(run, g, rate, rule, weight_decay)
            if average and run.step > n_steps // 2:
                run.mean += (run.theta - run.mean) / (run.step - n_steps // 2)
            ends_epoch = run.step == epoch * per_epoch
            watch(Step(epoch, run.step, n_steps, j, rate, ends_epoch))


def _generator(seed: int | None, epoch: int) -> torch.Generator | None:
    if seed is None:
        return None
    return torch.Generator().manual_seed((seed + epoch * EPOCH_STRIDE) % MAX_SEED)
