"""A batch in shards: of one process, or each of a rank that torchrun started."""

import contextlib
import datetime
import itertools
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor, distributed

from training.design.rows import Batch, Rows
from training.gradients import Gradient

POLL = 1e-4  # seconds between two looks at what the others gave
PATIENCE = datetime.timedelta(minutes=30)  # for a rank that is silent, yet connected
Value = TypeVar("Value")


class InvalidShards(ValueError):
    """A number of shards that is not that of the ranks."""


class LostRank(ConnectionError):
    """Another rank that has ended, or says nothing."""


@dataclass(frozen=True)
class Shards:
    """How many shards a batch is cut into, and whose: the rank's own, or all.

    Each rank gathers the sums of all, and adds them in the order of the shards, as one
    process does that has all the shards: the bits are the same.
    """

    n: int = 1
    rank: int | None = None
    gives_up: Callable[[], bool] = lambda: False  # asked while it waits for the others

    @property
    def is_first(self) -> bool:
        """Tell whether it is for this process to write, and to speak."""
        return not self.rank

    def mean_gradient(
        self, gradient: Gradient, theta: Tensor, rows: Rows, batch: Batch
    ) -> tuple[float, Tensor]:
        """Give J and ∂J/∂θ over a batch: Σ_s n_s (J_s, ∂J_s/∂θ) / Σ_s n_s."""
        if self.n == 1:
            return gradient(theta, *rows.batch(batch))
        parts = cut(batch, self.n)
        if self.rank is None:
            sums = (_summed(gradient, theta, rows, part) for part in parts)
        else:
            own = _summed(gradient, theta, rows, parts[self.rank])
            sums = iter(gathered(own, self.gives_up))
        mean = reduce(torch.add, sums) / _length(batch)
        return mean[-1].item(), mean[:-1].view_as(theta)

    def of_first(self, make: Callable[[], Value]) -> Value:
        """Give every rank what rank 0 makes."""
        if self.rank is None:
            return make()
        values = [make() if self.rank == 0 else None]
        with _lost_or_not():
            distributed.broadcast_object_list(values)
        return values[0]

    @contextlib.contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let rank 0 do it first: the others find what it left in the cache."""
        if self.rank:
            gathered(torch.zeros(1))
        yield
        if self.rank == 0:
            gathered(torch.zeros(1))


def cut(batch: Batch, n: int) -> list[Batch]:
    """Cut a batch into n parts of nearly one size, in its order."""
    length = _length(batch)
    edges = [length * i // n for i in range(n + 1)]
    pairs = itertools.pairwise(edges)
    if isinstance(batch, slice):
        return [slice(batch.start + i, batch.start + j) for i, j in pairs]
    return [batch[i:j] for i, j in pairs]


def gathered(own: Tensor, gives_up: Callable[[], bool] = lambda: False) -> list[Tensor]:
    """Get what every rank gave, in their order; raise LostRank if one is gone.

    It waits in Python, where signals are heard.
    """
    tensors = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    with _lost_or_not():
        work = distributed.all_gather(tensors, own, async_op=True)
        while not work.is_completed():
            time.sleep(POLL)
            if gives_up():
                raise LostRank("it says nothing")
        work.wait()
    return tensors


@contextlib.contextmanager
def _lost_or_not() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRank(re.split(r"\. |\n", str(error))[0]) from error


@contextlib.contextmanager
def joined(
    environment: Mapping[str, str], n: int | None, device: torch.device
) -> Iterator[Shards]:
    """Join the ranks that torchrun has started, or give one process n shards."""
    n_ranks = n_ranks_of(environment)
    if n_ranks is None:
        yield Shards(n or 1)
        return
    if n not in (None, n_ranks):
        raise InvalidShards(
            f"--shards {n}: torchrun started {n_ranks} ranks, and each has one"
        )
    if device.type == "cuda":
        torch.cuda.set_device(int(environment["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    # who waits for the others to come hears no signal in Python
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise LostRank(f"the ranks did not meet: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
    try:
        yield Shards(distributed.get_world_size(), distributed.get_rank())
    finally:
        distributed.destroy_process_group()


def n_ranks_of(environment: Mapping[str, str]) -> int | None:
    """Tell how many ranks torchrun has started; None if it has started none."""
    given = {name: environment.get(name) for name in ("WORLD_SIZE", "RANK")}
    if not any(given.values()):
        return None
    for name, value in given.items():
        if not (value or "").isdecimal():
            raise InvalidShards(f"{name} is {value!r}, not a number as torchrun gives")
    return int(environment["WORLD_SIZE"])


def _length(batch: Batch) -> int:
    return batch.stop - batch.start if isinstance(batch, slice) else len(batch)


def _summed(gradient: Gradient, theta: Tensor, rows: Rows, part: Batch) -> Tensor:
    """Sum ∂J/∂θ, flat, and J over a part, as one tensor; an empty part has none."""
    n = _length(part)
    if n == 0:
        return theta.new_zeros(theta.numel() + 1)
    j, g = gradient(theta, *rows.batch(part))
    return torch.cat([g.flatten(), g.new_tensor([j])]) * n
