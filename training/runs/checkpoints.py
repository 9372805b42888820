"""Checkpoints: all of a run, in one file that appears whole or not at all."""

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from training.data.atomic import replacing
from training.runs.state import Run

FORMAT = "digits checkpoint 1"
GRACE = 5.0  # seconds that a step may take to end after a signal
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InvalidCheckpoint(ValueError):
    """A checkpoint that is damaged, or of another run."""


class Stopped(Exception):
    """A run that a signal ended, at the end of a step."""


def checkpoint_path(output: Path) -> Path:
    """Name the checkpoint of the run that makes a weights file."""
    return output.with_name(f"{output.name}.checkpoint")


def write_checkpoint(run: Run, facts: Mapping[str, Any], path: Path) -> None:
    """Write where a run stands, and the facts by which it is known."""
    tensors = {"theta": run.theta, "mean": run.mean, "best": run.best}
    tensors |= {f"memory.{i}": tensor for i, tensor in enumerate(run.memory)}
    tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
    state = {"step": run.step, "least": run.least}
    state |= {"curve": run.curve, "losses": run.losses}
    texts = {"facts": json.dumps(facts), "state": json.dumps(state)}
    told = {"format": FORMAT, **texts, "sha256": _digest(tensors, texts)}
    with replacing(path) as partial:
        partial.write_bytes(save(tensors, told))


def read_checkpoint(path: Path, facts: Mapping[str, Any]) -> Run:
    """Read where a run stands.

    Raises InvalidCheckpoint, with its path, for a file that is damaged, no checkpoint,
    or of a run of which other facts are told.
    """
    if not path.is_file():
        raise InvalidCheckpoint(f"{path}: not a file")
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpoint(
            f"{path}: damaged, or no checkpoint ({error})"
        ) from error
    if told.get("format") != FORMAT:
        raise InvalidCheckpoint(
            f"{path}: format {told.get('format')!r}, not {FORMAT!r}: no checkpoint of "
            "this version"
        )
    texts = {name: told.get(name, "") for name in ("facts", "state")}
    if told.get("sha256") != _digest(tensors, texts):
        raise InvalidCheckpoint(f"{path}: damaged: its sha256 is not what it says")
    theirs, ours = json.loads(texts["facts"]), json.loads(json.dumps(facts))
    for name in sorted(theirs | ours):
        if theirs.get(name) != ours.get(name):
            raise InvalidCheckpoint(
                f"{path}: of another run: its {name} is {_told(theirs, name)}, here it "
                f"is {_told(ours, name)}. Give the flags it had, or delete it"
            )
    kept = {name: tensors.pop(name) for name in ("theta", "mean", "best")}
    memory = [tensors[f"memory.{i}"] for i in range(len(tensors))]
    run = Run(memory=memory, **kept, **json.loads(texts["state"]))
    return run.to(run.theta.device)


def _told(facts: Mapping[str, Any], name: str) -> str:
    return repr(facts[name]) if name in facts else "the default"


def _digest(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(texts).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


class Keeper:
    """Writes a run's checkpoint every so many seconds, and when a signal comes.

    `facts` are those by which the run is known when it is resumed. Of several ranks
    only the first writes by itself; the others mind the signals.
    """

    def __init__(
        self,
        run: Run,
        facts: Mapping[str, Any],
        path: Path,
        seconds: float,
        is_first: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._facts, self._path = run, facts, path
        self._seconds, self._clock, self._last = seconds, clock, clock()
        self._is_first = is_first
        self._signalled: float | None = None

    @contextmanager
    def deferring_signals(self) -> Iterator[None]:
        """Have the first signal that would end the run wait for `watch`.

        A second one interrupts at once. What the process ignores stays ignored.
        """

        def note(number: int, frame: object) -> None:
            if self._signalled is not None:
                raise KeyboardInterrupt
            self._signalled = self._clock()

        before = {number: signal.getsignal(number) for number in SIGNALS}
        heeded = [n for n in SIGNALS if before[n] not in (signal.SIG_IGN, None)]
        for number in heeded:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number in heeded:
                signal.signal(number, before[number])

    def watch(self) -> None:
        """Write the checkpoint if it is time; raise Stopped if a signal came.

        A checkpoint that cannot be written does not end the run, unless it is the last.
        """
        is_ending = self._signalled is not None
        is_time = is_ending or self._clock() - self._last >= self._seconds
        if self._is_first and is_time:
            try:
                self.write()
            except OSError as error:
                if is_ending:
                    raise
                tqdm.write(f"there is no checkpoint of this moment: {error}")
        if is_ending:
            where = f"; --resume goes on from {self._path}" if self._is_first else ""
            raise Stopped(f"stopped at step {self._run.step}{where}")

    def write(self) -> None:
        """Write the checkpoint, at the end of a step."""
        self._last = self._clock()
        write_checkpoint(self._run, self._facts, self._path)

    def has_waited(self) -> bool:
        """Tell whether a signal came so long ago that the step will not end."""
        since = self._signalled
        return since is not None and self._clock() - since > GRACE
