"""Atomic file replacement."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        # the error of a full disk has no file name
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def replace_all(contents: Mapping[Path, str]) -> None:
    """Write each text to its path; replace no file until all texts are written."""
    with contextlib.ExitStack() as stack:
        for path, text in contents.items():
            partial = stack.enter_context(replacing(path))
            partial.write_text(text, encoding="utf-8")
