"""Where answers go: standard output, or a file that an interrupted run continues."""

import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from service.local.answers import Format
from service.local.tasks import Task
from service.local.workers import Done

SAVE_SECONDS = 1.0  # between two records of what is written


class Busy(RuntimeError):
    """An output that another run writes."""


class State(NamedTuple):
    """What a run has written."""

    run: str  # identifies its options
    rows: int = 0
    n_errors: int = 0
    digest: str = ""  # of what these rows were read from
    size: int = 0  # bytes of the partial file


class Stream:
    """Standard output."""

    def __init__(self, form: Format) -> None:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        self.file, self.form, self.state = sys.stdout.buffer, form, State("")

    def remaining(self, tasks: Callable[[], Iterator[Task]]) -> Iterator[Task]:
        """Write the head; return all tasks."""
        self.file.write(self.form.head(0))
        return tasks()

    def write(self, task: Task, done: Done) -> None:
        """Write the rows of a task."""
        self.file.write(done.rows)
        self.file.flush()
        self.state = State("", task.end, self.state.n_errors + done.n_errors)

    def save(self) -> None:
        """Do nothing: what is written cannot be continued."""

    def finish(self) -> None:
        """Write what is buffered."""
        self.file.flush()


class File:
    """A file that appears when it is complete.

    Until then, a hidden file beside it has the rows, and another one records how many
    they are and what they were read from. Raises Busy if another run writes them,
    and OSError if there is something else than a file.
    """

    def __init__(self, path: Path, form: Format, run: str) -> None:
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():  # a pipe or a device, which would be replaced
            raise OSError(errno.EINVAL, "not a file")
        self.path = file = Path(os.path.realpath(path))  # a link stays one
        self.form, self.saved_at = form, time.monotonic()
        self.partial, self.record = (file.with_name(f".{file.name}.{x}") for x in ("part", "state"))
        self.file = os.fdopen(os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_named = os.path.samestat(os.fstat(self.file.fileno()), self.partial.stat())
        except OSError:
            is_named = False
        if not is_named:  # locked, or renamed by a run that finished after it was opened
            self.file.close()
            raise Busy(f"{path}: another run is writing this file")
        self.state = self._recorded(run)

    def _recorded(self, run: str) -> State:
        with contextlib.suppress(OSError, ValueError, TypeError):
            state = State(**json.loads(self.record.read_text()))
            if state.run == run and state.size <= self.partial.stat().st_size:
                return state
        return State(run)

    def remaining(self, tasks: Callable[[], Iterator[Task]]) -> Iterator[Task]:
        """Return the tasks that are not written yet.

        These are all tasks, unless the recorded ones are the same as now.
        """
        rest = tasks()
        last = next((task for task in rest if task.end >= self.state.rows > 0), None)
        if last is None or (last.end, last.digest) != (self.state.rows, self.state.digest):
            self.state, rest = State(self.state.run), tasks()
            self.file.write(self.form.head(0))
            self.state = self.state._replace(size=self.file.tell())
        self.file.truncate(self.state.size)
        self.file.seek(self.state.size)
        return rest

    def write(self, task: Task, done: Done) -> None:
        """Write the rows of a task, and once in a while the record."""
        self.file.write(done.rows)
        self.file.flush()
        n_errors, size = self.state.n_errors + done.n_errors, self.state.size + len(done.rows)
        self.state = State(self.state.run, task.end, n_errors, task.digest, size)
        if time.monotonic() - self.saved_at > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Record what is written, so that a later run continues."""
        self._sync()
        new = self.record.with_suffix(".new")
        new.write_text(json.dumps(self.state._asdict()))
        new.replace(self.record)
        self.saved_at = time.monotonic()

    def finish(self) -> None:
        """Put the complete file in its place."""
        self.file.seek(0)
        self.file.write(self.form.head(self.state.rows))
        self._sync()
        self.partial.replace(self.path)
        self.record.unlink(missing_ok=True)
        self.file.close()

    def _sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
