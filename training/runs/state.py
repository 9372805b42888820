"""Where a run stands: what it takes to go on as if it had never stopped."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from training.rules import RULES


@dataclass
class Run:
    """θ (K, D + 1) after `step` steps, and what was gathered on the way there.

    memory: what the rule remembers; mean: of θ over the last half of the steps; best: θ
    of the least validation NLL so far, which is `least`. All are like θ. The curve has
    points for metrics.jsonl, and `losses`, for its next one, are of the last steps.
    """

    theta: Tensor
    memory: list[Tensor]
    mean: Tensor
    best: Tensor
    step: int = 0
    least: float = math.inf
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def to(self, device: torch.device) -> "Run":
        """Copy the run to a device.

        Copies are aligned as torch aligns, and what was read from a file need not be:
        the last bits of a product depend on where its factors lie.
        """

        def copied(tensor: Tensor) -> Tensor:
            return tensor.to(device, copy=True)

        tensors = {name: getattr(self, name) for name in ("theta", "mean", "best")}
        moved = {name: copied(tensor) for name, tensor in tensors.items()}
        return replace(self, memory=[copied(each) for each in self.memory], **moved)


# what may be kept of a run in the end
KEPT = {
    "last": lambda run: run.theta,
    "average": lambda run: run.mean,
    "best": lambda run: run.best,
}


def begin(theta: Tensor, rule: str) -> Run:
    """Begin a run of a rule at θ."""
    memory = [torch.zeros_like(theta) for _ in range(RULES[rule].n_remembered)]
    return Run(theta, memory, mean=torch.zeros_like(theta), best=theta.clone())
