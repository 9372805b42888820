"""Worker processes, which are replaced if they are killed."""

import mmap
import multiprocessing
import signal
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from service.local.tasks import Task

# a forked process starts in milliseconds and shares the weights
FORK = multiprocessing.get_context("fork")
INDEX = struct.Struct("i")
NO_PICTURE = -1
AHEAD = 4  # tasks per process that may be begun before the first of them is taken
MAX_KILLED = 10  # processes that one task may cost


class Done(NamedTuple):
    """The rows of a task, and how many of them have an error."""

    rows: bytes
    n_errors: int


# The work on a task. It calls its second argument with the index of each picture that it
# begins, and does not read the pictures whose indices are in its third.
Work = Callable[[Task, Callable[[int], None], set[int]], Done]


class WorkersKilled(RuntimeError):
    """Too many worker processes were killed while they worked on one task."""


@dataclass
class _Job:
    """A task, its result, and what the processes that were killed were reading."""

    task: Task
    done: Done | None = None
    suspects: set[int] = field(default_factory=set)
    fatal: set[int] = field(default_factory=set)  # that killed two processes
    n_killed: int = 0

    def note_killed(self, index: int) -> None:
        """Note that a process was killed while it read the picture of this index."""
        self.n_killed += 1
        if self.n_killed > MAX_KILLED:
            raise WorkersKilled(f"{MAX_KILLED} worker processes were killed; is memory short?")
        if index != NO_PICTURE:
            (self.fatal if index in self.suspects else self.suspects).add(index)


class _Worker:
    """A process, our end of its pipe, and its job."""

    def __init__(self, work: Work, others: Sequence["_Worker"]) -> None:
        self.job: _Job | None = None
        self.index = mmap.mmap(-1, INDEX.size)  # shared with the process
        self.connection, theirs = FORK.Pipe()
        # a process sees the end of its pipe only if no other has a copy of our end
        ours = [self.connection, *(other.connection for other in others)]
        arguments = work, theirs, ours, self.index
        self.process = FORK.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, job: _Job) -> None:
        """Send a job to the process."""
        self.job = job
        INDEX.pack_into(self.index, 0, NO_PICTURE)
        with suppress(OSError):  # if it was killed, receiving shows that
            self.connection.send((job.task, job.fatal))

    def receive(self) -> Done | None:
        """Receive the result of the job; None if the process was killed."""
        try:
            result: Done | Exception = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(result, Exception):
            raise result
        return result

    def stop(self) -> None:
        """End the process: at once if it has a job."""
        self.connection.close()
        if self.job:
            self.process.kill()
        self.process.join()


def _serve(work: Work, connection: Connection, ours: list[Connection], index: mmap.mmap) -> None:
    """Work on the tasks that are received, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for other in ours:
        other.close()
    with suppress(EOFError, OSError):  # the parent has ended
        while True:
            task, fatal = connection.recv()
            try:
                result: Done | Exception = work(task, partial(INDEX.pack_into, index, 0), fatal)
            except Exception as error:
                result = error
            connection.send(result)


class Pool:
    """Processes that work on tasks; as many as there are tasks, but at most n_processes."""

    def __init__(self, work: Work, n_processes: int) -> None:
        self.work, self.n_processes = work, n_processes
        self.workers: list[_Worker] = []

    def results(self, tasks: Iterator[Task]) -> Generator[tuple[Task, Done], None, None]:
        """Work on tasks; yield their results in order.

        A task whose process is killed is begun again. A picture at which two processes
        were killed is left out. Raises WorkersKilled, and what `work` raises.
        """
        jobs: deque[_Job] = deque()
        try:
            while True:
                while len(jobs) < AHEAD * self.n_processes and self._has_idle():
                    if (task := next(tasks, None)) is None:
                        break
                    jobs.append(_Job(task))
                    self._begin(jobs[-1])
                if not jobs:
                    return
                self._receive()
                while jobs and (done := jobs[0].done):
                    yield jobs.popleft().task, done
        finally:
            for worker in self.workers:
                worker.stop()

    def _has_idle(self) -> bool:
        """Return whether a process has no job, or may be started."""
        return sum(each.job is not None for each in self.workers) < self.n_processes

    def _begin(self, job: _Job) -> None:
        """Send a job to a process that has none, which may be a new one."""
        worker = next((each for each in self.workers if each.job is None), None)
        if worker is None:
            worker = _Worker(self.work, self.workers)
            self.workers.append(worker)
        worker.begin(job)

    def _receive(self) -> None:
        """Wait for results; replace the processes that were killed."""
        busy = {each.connection: (each, each.job) for each in self.workers if each.job}
        for ready in wait(list(busy)):
            worker, job = busy[ready]  # type: ignore[index] # a Connection
            job.done = worker.receive()
            if job.done:
                worker.job = None
            else:
                job.note_killed(*INDEX.unpack_from(worker.index))
                self.workers.remove(worker)
                worker.stop()
                self._begin(job)
