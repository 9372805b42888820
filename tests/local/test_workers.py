"""Worker processes: order, kills, errors, the end of their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.local.tasks import Task
from service.local.workers import MAX_KILLED, Done, Pool, WorkersKilled
from tests.conftest import ROOT, wait_until

pytestmark = [
    pytest.mark.timeout(60),
    # these tests fork a process with the threads of other tests; the command has none
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def tasks(n: int) -> list[Task]:
    return [Task([f"{i}-{part}" for part in "abc"], range(0), 3 * i + 3, "") for i in range(n)]


def work(task, begin, fatal):
    """Return the names of a task's parts; parts in `fatal` in brackets."""
    for i, _ in enumerate(task.paths):
        begin(i)
    parts = [f"({path})" if i in fatal else path for i, path in enumerate(task.paths)]
    return Done(" ".join(parts).encode(), len(fatal))


def rows_of(work, n: int, n_processes: int = 2) -> list[str]:
    return [done.rows.decode() for _, done in Pool(work, n_processes).results(iter(tasks(n)))]


def test_results_have_the_order_of_the_tasks():
    def uneven(task, begin, fatal):
        time.sleep(0.05 if task.end == 3 else 0)
        return work(task, begin, fatal)

    assert rows_of(uneven, 30) == [f"{i}-a {i}-b {i}-c" for i in range(30)]


def test_there_are_no_more_processes_than_tasks():
    def identity(task, begin, fatal):
        return Done(str(os.getpid()).encode(), 0)

    assert len(set(rows_of(identity, 1, n_processes=4))) == 1
    assert rows_of(identity, 0) == []


def test_task_of_a_killed_process_is_done_by_another(tmp_path):
    def killed_once(task, begin, fatal):
        if task.end == 6 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return work(task, begin, fatal)

    assert rows_of(killed_once, 4) == [f"{i}-a {i}-b {i}-c" for i in range(4)]


def test_picture_that_kills_two_processes_is_left_out():
    def fatal_part(task, begin, fatal):
        for i, path in enumerate(task.paths):
            begin(i)
            if path == "1-b" and i not in fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return work(task, begin, fatal)

    assert rows_of(fatal_part, 3) == ["0-a 0-b 0-c", "1-a (1-b) 1-c", "2-a 2-b 2-c"]


def test_run_ends_when_a_task_kills_every_process():
    def always(task, begin, fatal):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkersKilled, match=f"{MAX_KILLED} worker processes were killed"):
        rows_of(always, 2)


def test_error_in_a_process_is_raised_in_the_parent():
    def wrong(task, begin, fatal):
        raise ValueError(f"wrong: {task.paths[0]}")

    with pytest.raises(ValueError, match="wrong: 0-a"):
        rows_of(wrong, 1)


ENDLESS = """
import os, sys, time
from service.local.workers import Done, Pool
from tests.local.test_workers import tasks

def work(task, begin, fatal):
    os.write(1, b"%d\\n" % os.getpid())  # a whole line: print writes the newline by itself
    time.sleep(0.2)
    return Done(b"", 0)

for _ in Pool(work, 2).results(iter(tasks(1000))):
    pass
"""


def test_processes_end_with_a_parent_that_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        found = {int(parent.stdout.readline()) for _ in range(4)}
        parent.kill()

        assert len(found) == 2
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))
