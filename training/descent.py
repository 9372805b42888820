"""Mini-batch gradient descent: the start, the batches, the step, the loop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from training.rules import RULES, decay
from training.schedules import factor

MAX_SEED = 2**63
EPOCH_STRIDE = 0x9E3779B97F4A7C15  # odd and large, so that no two epochs share a seed
WINDOW = 128  # blocks that are shuffled together, where not all rows are

Batch = slice | Tensor  # consecutive rows, or the indices (n,) int64 of some
BatchGradient = Callable[[Tensor, Batch], tuple[float, Tensor]]  # θ -> J, ∂J/∂θ


class Hyperparameters(Protocol):
    """The part of a recipe that the loop reads."""

    @property
    def epochs(self) -> int:
        """Passes over the rows."""

    @property
    def batch_size(self) -> int:
        """Rows per step."""

    @property
    def learning_rate(self) -> float:
        """The highest α of the schedule."""

    @property
    def schedule(self) -> str:
        """A key of SCHEDULES."""

    @property
    def warm_up(self) -> int:
        """Steps over which α rises."""

    @property
    def rule(self) -> str:
        """A key of RULES."""

    @property
    def weight_decay(self) -> float:
        """λ in w ← w - α λ w; 0 for none."""

    @property
    def shuffle(self) -> bool:
        """Whether each epoch has a random order, and not that of the rows."""

    @property
    def keep(self) -> str:
        """Whether to average θ: if it is "average"."""


@dataclass(eq=False)
class State:
    """θ (K, D + 1) after `step` steps, and what else the next step depends on.

    memory: the tensors of the update rule; mean: of θ over the last half of the steps,
    if it is kept. All have the shape of θ.
    """

    theta: Tensor
    memory: list[Tensor]
    mean: Tensor
    step: int = 0


class Step(NamedTuple):
    """A finished step: counts from 1, the loss of its batch in nats."""

    epoch: int
    number: int
    n_steps: int
    loss: float
    learning_rate: float
    ends_epoch: bool


def xavier(n_features: int, n_outputs: int, seed: int) -> Tensor:
    """Draw θ (K, D + 1): weights from a normal of variance 1 / D, and zero biases.

    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010: with this variance a sum over D inputs keeps their scale. J is
    convex here, so every start leads to the same minimum.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_outputs, n_features, generator=generator)
    return torch.hstack([weight / math.sqrt(n_features), torch.zeros(n_outputs, 1)])


def start(theta: Tensor, rule: str) -> State:
    """Return the state before the first step from θ."""
    memory = [torch.zeros_like(theta) for _ in range(RULES[rule].n_remembered)]
    return State(theta, memory, mean=torch.zeros_like(theta))


def batches(
    n: int, batch_size: int, generator: torch.Generator | None, block: int | None = None
) -> Iterator[Batch]:
    """Split rows 0..n-1 into batches: slices in order, or indices in random order.

    With `block`, the order of the blocks of so many rows is random, and rows are
    shuffled within a window of a few blocks: rows read from disk lie close together.
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
    """Draw the row indices of one window of blocks after another."""
    if block >= n:
        yield torch.randperm(n, generator=generator)
        return
    starts = torch.randperm(math.ceil(n / block), generator=generator) * block
    for window in torch.split(starts, WINDOW):
        rows = torch.cat([torch.arange(s, min(s + block, n)) for s in window.tolist()])
        yield rows[torch.randperm(len(rows), generator=generator)]


def step(state: State, g: Tensor, alpha: float, recipe: Hyperparameters) -> None:
    """Update θ once by the recipe's rule, given ∂J/∂θ; the biases do not decay."""
    state.step += 1
    if recipe.weight_decay:
        decay(state.theta[:, :-1], alpha, recipe.weight_decay)
    RULES[recipe.rule].update(state.theta, g, alpha, state.step, *state.memory)


@np.errstate(over="ignore", invalid="ignore")  # the loss shows it: it is not finite
def fit(
    state: State,
    gradient: BatchGradient,
    n_rows: int,
    recipe: Hyperparameters,
    seed: int,
    block: int | None = None,
    watch: Callable[[Step], None] = lambda step: None,
) -> None:
    """Minimise the mean loss over the rows, from the state to the recipe's last step.

    `watch` is called after every step. The order of an epoch depends on the seed and
    the epoch only. state.mean becomes the mean of θ over the last half of the steps if
    the recipe keeps the average: Polyak, Juditsky, "Acceleration of stochastic
    approximation by averaging", 1992
    """
    per_epoch = math.ceil(n_rows / recipe.batch_size)
    n_steps = recipe.epochs * per_epoch
    for epoch in range(state.step // per_epoch + 1, recipe.epochs + 1):
        generator = _generator(seed, epoch) if recipe.shuffle else None
        order = batches(n_rows, recipe.batch_size, generator, block)
        for batch in islice(order, state.step % per_epoch, None):
            scale = factor(recipe.schedule, state.step, n_steps, recipe.warm_up)
            alpha = recipe.learning_rate * scale
            j, dj_dtheta = gradient(state.theta, batch)
            step(state, dj_dtheta, alpha, recipe)  # θ ← θ - α ∂J/∂θ
            if recipe.keep == "average" and state.step > n_steps // 2:
                state.mean += (state.theta - state.mean) / (state.step - n_steps // 2)
            ends_epoch = state.step == epoch * per_epoch
            watch(Step(epoch, state.step, n_steps, j, alpha, ends_epoch))


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed + epoch * EPOCH_STRIDE) % MAX_SEED)
