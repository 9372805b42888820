"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which replaces `path` if nothing goes wrong."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not tell it
        raise
    finally:
        partial.unlink(missing_ok=True)


def replace_all(contents: Mapping[Path, str]) -> None:
    """Write texts to their paths: each is written before the first is replaced."""
    with contextlib.ExitStack() as stack:
        for path, text in contents.items():
            partial = stack.enter_context(replacing(path))
            partial.write_text(text, encoding="utf-8")
