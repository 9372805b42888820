"""CPU, memory and files of the master and its workers, from Linux's /proc."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Usage(NamedTuple):
    """Resources that some processes use together."""

    cpu_seconds: float  # of ended children of the first process too
    memory_bytes: int  # pages that several processes share are counted once
    open_files: int
    started: float  # start of the first process, in seconds since 1970


def usage(pids: Iterable[int]) -> Usage | None:
    """Return the sum over processes, the master first; None without /proc."""
    ticks, memory, files, starts = 0, 0, 0, []
    for pid in pids:
        # a process may end at any time
        with contextlib.suppress(OSError):
            folder = PROC / str(pid)
            # after the name in brackets: utime, stime, cutime, cstime, …, starttime
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
            ticks += sum(map(int, fields[11:15]))
            starts.append(int(fields[19]))
            memory += _proportional_set_size(folder)
            files += len(os.listdir(folder / "fd"))
    if not starts:
        return None
    hertz = os.sysconf("SC_CLK_TCK")
    return Usage(ticks / hertz, memory, files, _boot_time() + starts[0] / hertz)


def _proportional_set_size(folder: Path) -> int:
    text = (folder / "smaps_rollup").read_text()
    return int(text.partition("Pss:")[2].split()[0]) * 1024


def _boot_time() -> float:
    return int((PROC / "stat").read_text().partition("btime ")[2].split()[0])
