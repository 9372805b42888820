"""Gradient descent: batches, the step, the loop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]

# the factor on the learning rate after the share `done`, in [0, 1), of all steps
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
}
MAX_SEED = 2**63
EPOCH_STRIDE = 0x9E3779B97F4A7C15  # odd: the epochs of nearby seeds fall far apart


@dataclass(frozen=True)
class Parameters:
    """θ of logits z = (φ(x) - μ) W + b.

    weight (D, K) and bias (K,); for the binary model, weight (D,) and bias scalar.
    centre (D,) or scalar: μ, which is fixed. Around the features' mean the descent is
    better conditioned; the model is the same, with b - μ W as its bias.
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor = field(default_factory=lambda: torch.zeros(()))

    def logits(self, features: Tensor) -> Tensor:
        """Map features (n, D) to logits (n, K), or (n,) for the binary model."""
        return (features.float() - self.centre) @ self.weight + self.bias


@dataclass(frozen=True)
class Step:
    """One step of the loop, as it is told to a watcher: counts from 1, loss in nats."""

    epoch: int
    number: int
    n_steps: int
    loss: float
    learning_rate: float
    ends_epoch: bool


def xavier(n_features: int, shape: tuple[int, ...], seed: int) -> Parameters:
    """Draw weights (D, *shape) from a normal of variance 1 / D; the bias is zero.

    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010: the variance that lets a sum over D inputs keep their scale.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(*shape, n_features, generator=generator)
    # (D, K) as a view of (K, D): the same numbers, and twice as fast a product on a CPU
    weight = (weight / math.sqrt(n_features)).movedim(-1, 0)
    return Parameters(weight.requires_grad_(), torch.zeros(shape, requires_grad=True))


def batches(
    n: int, batch_size: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Cut 0..n-1 into batches of indices, shuffled by a generator or in order."""
    order = (
        torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    )
    yield from order.split(batch_size)


def step(parameters: Parameters, loss: Tensor, learning_rate: float) -> None:
    """Descend once along the gradient of the loss: θ ← θ - α ∂J/∂θ."""
    loss.backward()
    with torch.no_grad():
        for theta in (parameters.weight, parameters.bias):
            theta -= learning_rate * theta.grad
            theta.grad = None


def fit(
    parameters: Parameters,
    loss: Loss,
    features: Tensor,
    labels: Tensor,
    *,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    schedule: str = "constant",
    seed: int | None,
    watch: Callable[[Step], None] = lambda step: None,
) -> None:
    """Minimise the mean loss over features (n, D) and labels (n,), changing θ in place.

    `loss` maps logits and labels to a scalar. The order of an epoch depends on the
    seed and the epoch alone; without a seed it is the order of the rows.
    """
    n_steps = epochs * math.ceil(len(features) / batch_size)
    number = 0
    for epoch in range(1, epochs + 1):
        generator = None if seed is None else _generator(seed, epoch)
        for rows in batches(len(features), batch_size, generator):
            rate = learning_rate * SCHEDULES[schedule](number / n_steps)
            j = loss(parameters.logits(features[rows]), labels[rows])
            step(parameters, j, rate)
            number += 1
            ends_epoch = number * epochs == epoch * n_steps
            watch(Step(epoch, number, n_steps, j.item(), rate, ends_epoch))


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed + epoch * EPOCH_STRIDE) % MAX_SEED)
