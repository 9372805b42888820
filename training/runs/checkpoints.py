"""Checkpoints: one file with the whole training state, written atomically."""

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from training.data.atomic import replacing
from training.descent import State
from training.runs.distributed import LostRank
from training.runs.state import Run

FORMAT = "digits checkpoint 1"
GRACE = 5.0  # seconds that a step may take to end after a signal
Facts = Mapping[str, Any]  # what identifies a run
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InvalidCheckpoint(ValueError):
    """A checkpoint that is damaged or belongs to another run."""


class Stopped(Exception):
    """A run that a signal ended, at the end of a step."""


def checkpoint_path(output: Path) -> Path:
    """Return the path of the checkpoint of the run that writes a weights file."""
    return output.with_name(f"{output.name}.checkpoint")


def write_checkpoint(run: Run, facts: Facts, path: Path) -> None:
    """Write the state of a run, and the facts that identify the run."""
    state = run.state
    tensors = {"theta": state.theta, "mean": state.mean, "best": run.best}
    tensors |= {f"memory.{i}": tensor for i, tensor in enumerate(state.memory)}
    tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
    counts: dict[str, Any] = {"step": state.step, "least": run.least}
    counts |= {"curve": run.curve, "losses": run.losses}
    texts = {"facts": json.dumps(facts), "state": json.dumps(counts)}
    metadata = {"format": FORMAT, **texts, "sha256": _digest(tensors, texts)}
    with replacing(path) as partial:
        partial.write_bytes(save(tensors, metadata))


def read_checkpoint(path: Path, facts: Facts) -> Run:
    """Read the state of the run that the facts identify.

    Raises InvalidCheckpoint, with the path, for a file that is damaged, not a
    checkpoint, or of another run.
    """
    if not path.is_file():
        raise InvalidCheckpoint(f"{path}: not a file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpoint(f"{path}: damaged or not a checkpoint ({error})") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise InvalidCheckpoint(f"{path}: not a {FORMAT!r}: its format is {found!r}")
    texts = {name: metadata.get(name, "") for name in ("facts", "state")}
    if metadata.get("sha256") != _digest(tensors, texts):
        raise InvalidCheckpoint(f"{path}: damaged: wrong sha256")
    there, here = json.loads(texts["facts"]), json.loads(json.dumps(facts))
    for name, theirs, ours in differences(there, here):
        raise InvalidCheckpoint(
            f"{path}: checkpoint of another run: its {name} is {theirs!r}, here it is "
            f"{ours!r}; use the flags of that run, or delete the file"
        )
    theta, mean, best = (tensors.pop(name) for name in ("theta", "mean", "best"))
    memory = [tensors[f"memory.{i}"] for i in range(len(tensors))]
    counts = json.loads(texts["state"])
    state = State(theta, memory, mean, counts.pop("step"))
    return Run(state, best, **counts).to(theta.device)


def differences(theirs: Facts, ours: Facts) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name and both values of each fact in which two runs differ."""
    for name in sorted({*theirs, *ours}):
        there, here = (facts.get(name, "default") for facts in (theirs, ours))
        if there != here:
            yield name, there, here


def _digest(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(texts).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


@dataclass(eq=False)
class Checkpointer:
    """Writes the checkpoint of a run at an interval, and when a signal arrives.

    `facts` identify the run when it is resumed. Only rank 0 writes by itself; the other
    ranks obey signals.
    """

    run: Run
    facts: Facts
    path: Path
    seconds: float
    is_rank_0: bool = True
    clock: Callable[[], float] = time.monotonic
    _signalled: float | None = None

    def __post_init__(self) -> None:
        self._last = self.clock()

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Defer the first signal that would end the run until the next `watch`.

        A second one interrupts at once. Ignored signals stay ignored. A checkpoint is
        written, on every rank, if another rank is lost or stdout is closed.
        """

        def note(number: int, frame: object) -> None:
            if self._signalled is not None:
                raise KeyboardInterrupt
            self._signalled = self.clock()

        before = {number: signal.getsignal(number) for number in SIGNALS}
        handled = [n for n in SIGNALS if before[n] not in (signal.SIG_IGN, None)]
        for number in handled:
            signal.signal(number, note)
        try:
            yield
        except LostRank as error:
            self.write()
            raise LostRank(
                f"lost another rank after step {self.run.state.step} ({error}); to "
                f"continue from {self.path}, restart all ranks with --resume"
            ) from error
        except OSError:
            self.write()
            raise
        finally:
            for number in handled:
                signal.signal(number, before[number])

    def watch(self) -> None:
        """Write the checkpoint if it is due; raise Stopped if a signal arrived.

        A failed write is reported, and is an error only if it was the last.
        """
        is_ending = self._signalled is not None
        is_due = is_ending or self.clock() - self._last >= self.seconds
        if self.is_rank_0 and is_due:
            try:
                self.write()
            except OSError as error:
                if is_ending:
                    raise
                tqdm.write(f"checkpoint not written: {error}")
        if is_ending:
            step = self.run.state.step
            raise Stopped(f"stopped at step {step}; resume from {self.path} with --resume")

    def write(self) -> None:
        """Write the checkpoint; call this at the end of a step."""
        self._last = self.clock()
        write_checkpoint(self.run, self.facts, self.path)

    def is_overdue(self) -> bool:
        """Return whether a signal arrived so long ago that the step must be stuck."""
        since = self._signalled
        return since is not None and self.clock() - since > GRACE
