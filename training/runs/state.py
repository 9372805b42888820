"""Training state: everything a checkpoint needs for a bit-exact resume."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from training.descent import State


@dataclass(eq=False)
class Run:
    """The state of the descent, and what was recorded on the way there.

    best: the θ (K, D + 1) of the lowest validation NLL so far, which is `least`. The
    curve holds the points of metrics.jsonl; `losses` are those since the last point.
    """

    state: State
    best: Tensor
    least: float = math.inf
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def to(self, device: torch.device) -> "Run":
        """Copy the run to a device.

        The copies are aligned as torch aligns; tensors read from a file may not be, and
        the last bits of a product depend on the alignment of its factors.
        """

        def copied(tensor: Tensor) -> Tensor:
            return tensor.to(device, copy=True)

        theta, mean = copied(self.state.theta), copied(self.state.mean)
        memory = [copied(each) for each in self.state.memory]
        state = State(theta, memory, mean, self.state.step)
        return replace(self, state=state, best=copied(self.best))


# the θ of a finished run that --keep selects
KEPT: dict[str, Callable[[Run], Tensor]] = {
    "last": lambda run: run.state.theta,
    "average": lambda run: run.state.mean,
    "best": lambda run: run.best,
}
