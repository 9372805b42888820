"""Batches in shards, all in one process or one on each rank that torchrun started."""

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

from training.descent import Batch
from training.design.rows import Rows
from training.gradients import Gradient

POLL_INTERVAL = 1e-4  # seconds
TIMEOUT = datetime.timedelta(minutes=30)  # for a rank that is connected and silent
Value = TypeVar("Value")


class InvalidShards(ValueError):
    """A number of shards, or flags, that do not match the ranks."""


class LostRank(ConnectionError):
    """Another rank that has ended or does not respond."""


@dataclass(frozen=True)
class Shards:
    """The number of shards of a batch, and which of them this process computes.

    rank: the shard of this rank, or None for one process that computes them all. Every
    rank gathers all sums and adds them in the order of the shards, as the one process
    does: the bits are the same. While it waits for other ranks, `gives_up` is polled.
    """

    n: int = 1
    rank: int | None = None
    gives_up: Callable[[], bool] = lambda: False

    @property
    def is_rank_0(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return not self.rank

    def mean_gradient(
        self, gradient: Gradient, rows: Rows, theta: Tensor, batch: Batch
    ) -> tuple[float, Tensor]:
        """Compute J and ∂J/∂θ over a batch: Σ_s n_s (J_s, ∂J_s/∂θ) / Σ_s n_s."""
        if self.n == 1:
            return gradient(theta, *rows.batch(batch))
        parts = split(batch, self.n)
        if self.rank is None:
            sums = [_summed(gradient, rows, theta, part) for part in parts]
        else:
            own = _summed(gradient, rows, theta, parts[self.rank])
            sums = all_gather(own, self.gives_up)
        mean = reduce(torch.add, sums) / _length(batch)
        return mean[-1].item(), mean[:-1].view_as(theta)

    def from_rank_0(self, make: Callable[[], Value]) -> Value:
        """Return on every rank what `make` returns on rank 0."""
        if self.rank is None:
            return make()
        values = [make()] if self.rank == 0 else [None]
        with _lost_rank():
            distributed.broadcast_object_list(values)
        return values[0]  # type: ignore[return-value] # broadcast from rank 0

    @contextlib.contextmanager
    def rank_0_first(self) -> Iterator[None]:
        """Run the block on rank 0 before the others, which then find its cache."""
        if self.rank:
            all_gather(torch.zeros(1))
        yield
        if self.rank == 0:
            all_gather(torch.zeros(1))


def refuse_shards(shards: Shards, n_rows: int) -> None:
    """Raise InvalidShards if there are more shards than rows in a batch."""
    if shards.n > n_rows:
        raise InvalidShards(
            f"--shards {shards.n}: a batch has only {n_rows:,} rows; use at most so many"
        )


def split(batch: Batch, n: int) -> list[Batch]:
    """Split a batch into n parts of nearly equal size, in order."""
    length = _length(batch)
    edges = [length * i // n for i in range(n + 1)]
    pairs = itertools.pairwise(edges)
    if isinstance(batch, slice):
        return [slice(batch.start + i, batch.start + j) for i, j in pairs]
    return [batch[i:j] for i, j in pairs]


def all_gather(own: Tensor, gives_up: Callable[[], bool] = lambda: False) -> list[Tensor]:
    """Return the tensors of all ranks, in order; raise LostRank if one is gone.

    It polls in Python, so that signals are handled while it waits.
    """
    tensors = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    with _lost_rank():
        work = distributed.all_gather(tensors, own, async_op=True)
        while not work.is_completed():
            time.sleep(POLL_INTERVAL)
            if gives_up():
                raise LostRank("no response")
        work.wait()
    return tensors


@contextlib.contextmanager
def _lost_rank() -> Iterator[None]:
    """Raise torch's RuntimeError of a broken connection as LostRank."""
    try:
        yield
    except RuntimeError as error:
        raise LostRank(re.split(r"\. |\n", str(error))[0]) from error


@contextlib.contextmanager
def join(environment: Mapping[str, str], n: int | None, device: torch.device) -> Iterator[Shards]:
    """Join the ranks that torchrun started, or compute n shards in one process."""
    n_ranks = world_size(environment)
    if n_ranks is None:
        yield Shards(n or 1)
        return
    if n not in (None, n_ranks):
        raise InvalidShards(f"--shards {n}: torchrun started {n_ranks} ranks, with one shard each")
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(_own_device(environment, torch.cuda.device_count()))
        backend = "cpu:gloo,cuda:nccl"  # some tensors that the ranks exchange are on the CPU
    # torch waits for the other ranks in C++, where no Python handler runs
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise LostRank(f"the ranks could not connect: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
    try:
        yield Shards(distributed.get_world_size(), distributed.get_rank())
    finally:
        distributed.destroy_process_group()


def _own_device(environment: Mapping[str, str], n_devices: int) -> int:
    """Return the CUDA device of this rank: the one of its number on its machine."""
    local_rank = environment.get("LOCAL_RANK", "")
    if not local_rank.isdecimal():
        raise InvalidShards(f"LOCAL_RANK is {local_rank!r}, not the number that torchrun sets")
    if int(local_rank) >= n_devices:
        raise InvalidShards(
            f"rank {local_rank} of this machine has no CUDA device (there are {n_devices}); "
            f"start {n_devices} ranks on it, or omit --device"
        )
    return int(local_rank)


def world_size(environment: Mapping[str, str]) -> int | None:
    """Return how many ranks torchrun started, or None outside torchrun."""
    given = {name: environment.get(name, "") for name in ("WORLD_SIZE", "RANK")}
    if not any(given.values()):
        return None
    for name, value in given.items():
        if not value.isdecimal():
            raise InvalidShards(f"{name} is {value!r}, not the number that torchrun sets")
    return int(environment["WORLD_SIZE"])


def _length(batch: Batch) -> int:
    return batch.stop - batch.start if isinstance(batch, slice) else len(batch)


def _summed(gradient: Gradient, rows: Rows, theta: Tensor, part: Batch) -> Tensor:
    """Sum ∂J/∂θ, flat, and J over a part, as one tensor; zeros for an empty part."""
    n = _length(part)
    if n == 0:
        return theta.new_zeros(theta.numel() + 1)
    j, g = gradient(theta, *rows.batch(part))
    return torch.cat([g.flatten(), g.new_tensor([j])]) * n
