"""Corrections of answers, kept in a folder: a picture and a record of each."""

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from service.classifier import ALL_CLASSES
from service.reading.containers.formats import FORMATS, open_container
from service.settings import InvalidSetting

MAX_CORRECTIONS = 1_000  # in a folder
MAX_FOLDER_BYTES = 256 * 2**20  # of all pictures and records in it
MAX_RECORD_BYTES = 4_096
ID_DIGITS = 24  # hexadecimal digits of the picture's SHA-256
KINDS = "|".join(kind.lower() for kind in FORMATS)
FILE = re.compile(rf"([0-9a-f]{{{ID_DIGITS}}})\.(json|{KINDS})")
LOCK, NEW = ".lock", ".new"  # the file that is locked, and one that is being written
LOCK_TRIES, LOCK_STEP = 250, 0.02  # the second in seconds

_log = logging.getLogger(__name__)


class NotKept(RuntimeError):
    """A correction that the folder does not take; the message says why."""


class UnknownCorrection(ValueError):
    """The name of a correction that the folder does not have."""


class Correction(NamedTuple):
    """A picture file, the digit that it shows, and the answer that was corrected."""

    picture: Path
    digit: int | None  # None: not a digit
    answer: Mapping[str, Any]  # digit, probability, is_digit, and the model's version
    time: str  # when it was kept: ISO 8601, UTC


def make_folder(folder: Path) -> None:
    """Make the folder, if it does not exist; raise InvalidSetting if it cannot be written."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        message = f"DIGITS_FEEDBACK_DIR is {str(folder)!r}: {error.strerror}; set a writable folder"
        raise InvalidSetting(message) from None


def keep(
    folder: Path, picture: bytes, digit: int | None, answer: Mapping[str, Any], seconds: float
) -> str:
    """Keep a correction of a picture that could be read; return its name.

    A later correction of the same picture replaces the earlier one. seconds: since 1970.
    Raises NotKept if the folder is full or in use, and OSError if it cannot be written.
    """
    name = hashlib.sha256(picture).hexdigest()[:ID_DIGITS]
    file, record = f"{name}.{open_container(picture).kind.lower()}", f"{name}.json"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    text = json.dumps({"picture": file, "digit": digit, "answer": dict(answer), "time": now})
    with _locked(folder):
        sizes = _sizes(folder)
        others = {each: size for each, size in sizes.items() if not each.startswith(name)}
        if sum(each.endswith(".json") for each in others) >= MAX_CORRECTIONS:
            raise NotKept(f"the folder has {MAX_CORRECTIONS:,} corrections")
        if sum(others.values()) + len(picture) + MAX_RECORD_BYTES > MAX_FOLDER_BYTES:
            raise NotKept(f"the corrections would take more than {MAX_FOLDER_BYTES:,} bytes")
        try:
            if sizes.get(file) != len(picture):
                _write(folder / file, picture)
            _write(folder / record, text.encode())
        finally:
            if not (folder / record).exists():
                (folder / file).unlink(missing_ok=True)
    return name


def corrections(folder: Path) -> list[Correction]:
    """Return the corrections in a folder, the oldest first.

    A damaged one is left out, with a warning. Raises OSError if there is no such folder.
    """
    found = []
    for name in sorted(_sizes(folder)):
        if name.endswith(".json"):
            try:
                found.append(_read(folder, name))
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                _log.warning("%s: damaged, left out: %s", folder / name, error)
    return sorted(found, key=lambda each: (each.time, each.picture))


def erase(folder: Path, names: Sequence[str] = ()) -> int:
    """Erase some corrections, or all of them, also damaged ones; return how many.

    Raises UnknownCorrection for a name that the folder does not have.
    """
    _sizes(folder)  # raises OSError before a lock is written
    with _locked(folder):
        files = sorted(_sizes(folder), key=lambda each: not each.endswith(".json"))
        known = {each.partition(".")[0] for each in files}
        if unknown := sorted(set(names) - known):
            raise UnknownCorrection(f"{folder} has no correction {unknown[0]!r}")
        chosen = set(names) or known
        for file in files:  # first the records
            if file.partition(".")[0] in chosen:
                (folder / file).unlink()
    return len(chosen)


def _read(folder: Path, name: str) -> Correction:
    with (folder / name).open("rb") as file:
        record = json.loads(file.read(MAX_RECORD_BYTES))
    digit, answer, when = record["digit"], record["answer"], record["time"]
    picture = FILE.fullmatch(record["picture"])
    if not picture or picture[1] != name.partition(".")[0]:
        raise ValueError("it names another picture")
    if not (digit is None or (type(digit) is int and digit in ALL_CLASSES)):
        raise ValueError(f"the digit is {digit!r}")
    if not isinstance(answer, dict) or not isinstance(when, str):
        raise ValueError("the answer is no object, or the time no text")
    path = folder / picture[0]
    path.stat()
    return Correction(path, digit, answer, when)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each picture and record in a folder, by name."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if FILE.fullmatch(entry.name)}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Run the block while no other thread or process writes into the folder."""
    with (folder / LOCK).open("w") as file:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOCK_STEP)
        else:
            raise NotKept("another process uses the folder")
        yield


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears when it is complete."""
    new = path.with_name(NEW)
    try:
        # no fsync, which takes 100 times as long: what a crash of the machine cuts off is
        # damaged, and left out
        new.write_bytes(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
