"""The entry point of the training commands."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

INTERRUPTED = 130  # the exit status of a shell's command after Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default the training; return the exit status."""
    with _ending_at_once():
        # torch takes seconds to import
        from training.commands import run
    return run(list(sys.argv[1:] if arguments is None else arguments))


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """End the process at Ctrl-C within the block, without a traceback.

    An exception would pass through the imports of libraries, which may replace it.
    """

    def end(number: int, frame: object) -> None:
        os.write(2, b"\ndigits-train: stopped; nothing was saved\n")
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
