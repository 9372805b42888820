"""A progress bar on a terminal."""

import shutil
import sys
import time

UPDATE_SECONDS = 0.1
WIDTH = 30  # characters


class Progress:
    """A line on standard error: how many of n rows are done, and how many per second.

    first: the rows that an earlier run has done
    """

    def __init__(self, n: int, first: int) -> None:
        self.n, self.first = n, first
        self.started_at = self.shown_at = time.monotonic()

    def show(self, done: int) -> None:
        """Update the line, unless it was updated just before."""
        now = time.monotonic()
        if now - self.shown_at < UPDATE_SECONDS:
            return
        self.shown_at = now
        rate = (done - self.first) / (now - self.started_at)
        bar = "#" * (WIDTH * done // self.n)
        left = (self.n - done) / rate
        self._replace(f"{bar:-<{WIDTH}} {done:,} of {self.n:,}, {rate:,.0f}/s, {left:,.0f} s left")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._replace("")

    def _replace(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:columns]:<{columns}}\r", end="", file=sys.stderr, flush=True)
