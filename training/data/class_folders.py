"""A data set of pictures in class folders, read as the service reads uploads."""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from service.classifier import ALL_CLASSES
from service.features import Images
from service.images import InvalidImage, begins_like_picture, read_image
from service.settings import DEFAULT_LIMITS, allowed_cpus
from training.data.dataset import TEST_DIVISOR, DataSet, Digits, InvalidData

CLASS_NAMES = tuple(map(str, ALL_CLASSES))
# names, in any case, of the folders of data that is split already; the job chooses the
# validation rows itself
TRAIN_NAMES, TEST_NAMES = ("train", "training", "val", "valid", "validation"), ("test", "testing")
TO_SPLIT = ", to train, to validate and to test"
MIN_PICTURES = 3  # of a class: one each to train, to validate and to test on
MAX_PICTURE_BYTES = 64 * 2**20
# From this many pictures on, processes share the work: starting one takes as long as
# reading 20 to 200 pictures.
MIN_PARALLEL = 400
CHUNK = 16  # pictures that a process reads at a time
MAX_LISTED = 20  # unreadable pictures
MAX_NAMED = 5  # folders that are no classes
NO_CLASS = "not in a folder named 0 to 9"
HEAD = 16  # bytes of a file, which show whether it is a picture


def class_folders(folder: Path) -> dict[int, Path]:
    """Return the folders 0 to 9 in a folder, by their digits."""
    paths = {label: folder / name for label, name in enumerate(CLASS_NAMES)}
    return {label: path for label, path in paths.items() if os.path.isdir(path)}


def has_class_folders(folder: Path) -> bool:
    """Return whether a folder, or one for training in it, has folders 0 to 9."""
    return bool(class_folders(folder) or all(_split(folder)))


def begins_with_pictures(folder: Path) -> bool:
    """Return whether a picture is among the first files of a class folder.

    There is none in folders that a system names by numbers, such as those in /proc.
    """
    tops = folder, *itertools.chain(*_split(folder))
    classes = [path for top in tops for path in class_folders(top).values()]
    return any(any(map(_is_picture, itertools.islice(_files(p), MAX_LISTED))) for p in classes)


def is_among_pictures(names: Sequence[str]) -> bool:
    """Return whether a path in a folder of pictures leads into a folder that is read."""
    return bool({names[0].lower()} & {*CLASS_NAMES, *TRAIN_NAMES, *TEST_NAMES})


def load_pictures(folder: Path, seed: int) -> DataSet:
    """Read the pictures of all class folders and of the folders below them.

    Names that begin with a dot are skipped. Pictures that cannot be read are listed on
    stderr. The test set is that of the folder `test` or, without one, a fifth of each class,
    chosen by the seed. Raises InvalidData if a class has too few pictures that can be read
    or only some to test on, or if there are folders that are no classes.
    """
    name = folder.resolve().name
    if class_folders(folder):
        digits = _load(folder, MIN_PICTURES, seed)
        return DataSet(name, *digits.parted(TEST_DIVISOR, seed))
    return DataSet(name, *_load_split(folder, seed))


def _load_split(folder: Path, seed: int) -> tuple[Digits, Digits]:
    """Read the pictures to train on and to test on of data that is split already."""
    train, test = _split(folder)
    _check_folders(folder, [*train, *test])
    known = {label for each in train for label in class_folders(each)}
    if unknown := sorted(class_folders(test[0]).keys() - known):
        listed = ", ".join(map(str, unknown))
        raise InvalidData(f"{test[0]} has digits that are in no folder to train on: {listed}")
    rows = functools.reduce(Digits.__add__, [_load(each, 1, seed) for each in train])
    digits = rows, _load(test[0], 1, seed)
    loose = dict.fromkeys(_pictures_in(folder), NO_CLASS)
    _list_failed(loose, sum(map(len, digits)) + len(loose))
    least, counts = MIN_PICTURES - 1, np.bincount(rows.labels)
    if few := [label for label in sorted(known) if counts[label] < least]:
        raise InvalidData(
            f"{folder}: {counts[few[0]]} pictures of the digit {few[0]} to train on; a digit needs "
            f"{least} or more"
        )
    return digits


def _split(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of pictures to train on and to test on, in a folder."""
    with contextlib.suppress(OSError):
        names, both = sorted(os.listdir(folder)), (TRAIN_NAMES, TEST_NAMES)
        train, test = ([folder / name for name in names if name.lower() in part] for part in both)
        return [*filter(class_folders, train)], [*filter(class_folders, test)][:1]
    return [], []


def _load(folder: Path, least: int, seed: int) -> Digits:
    """Read the pictures of all classes; raise InvalidData if one has fewer than `least`."""
    classes = class_folders(folder)
    _check_folders(folder, classes.values())
    found = [(path, label) for label, top in classes.items() for path in _files(top)]
    paths, labels = [path for path, _ in found], [label for _, label in found]
    read = list(tqdm(_read_all(paths), folder.name, len(paths), disable=None, leave=False))
    failed = {path: each for path, each in zip(paths, read, strict=True) if isinstance(each, str)}
    unlabelled = dict.fromkeys(_pictures_in(folder), NO_CLASS)
    _list_failed(failed | unlabelled, len(paths) + len(unlabelled))
    kept = [i for i, each in enumerate(read) if not isinstance(each, str)]
    counts = np.bincount([labels[i] for i in kept], minlength=len(ALL_CLASSES))
    few = [label for label in classes if counts[label] < least]
    if few:
        raise InvalidData(
            f"{classes[few[0]]}: {counts[few[0]]} pictures that can be read; a digit needs "
            f"{least} or more{TO_SPLIT if least == MIN_PICTURES else ''}"
        )
    # in random order, so that --rows takes some of every class
    order = np.random.default_rng(seed).permutation(kept).tolist()
    return Digits(np.stack([read[i] for i in order]), np.array(labels, np.uint8)[order])


def _check_folders(folder: Path, known: Iterable[Path]) -> None:
    """Raise InvalidData if a folder has others than the known ones and those of programs."""
    others = {each.name for each in folder.iterdir() if each.is_dir()} - {p.name for p in known}
    # such as .git, __MACOSX and @eaDir
    if foreign := sorted(name for name in others if name[0].isalnum()):
        listed = ", ".join(foreign[:MAX_NAMED]) + ", ..." * (len(foreign) > MAX_NAMED)
        raise InvalidData(
            f"{folder} has folders that are no classes: {listed}; name each folder by its digit, "
            "0 to 9, and move others elsewhere"
        )


def _pictures_in(folder: Path) -> Iterator[Path]:
    """Return the picture files in a folder, but not in its folders."""
    paths = sorted(folder.iterdir())
    return (path for path in paths if not path.name.startswith(".") and _is_picture(path))


def _is_picture(path: Path) -> bool:
    """Return whether a path is a file that begins like a picture."""
    with contextlib.suppress(OSError):
        if os.path.isfile(path) and os.path.getsize(path):  # files in /proc have no size
            with path.open("rb") as file:
                return begins_like_picture(file.read(HEAD))
    return False


def _files(top: Path) -> Iterator[Path]:
    """Yield the files below a folder in the order of their names, then unreadable folders.

    Links to folders are not followed.
    """
    denied: list[Path] = []
    for folder, folders, names in os.walk(top, onerror=lambda e: denied.append(Path(e.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
    yield from denied


def _read(path: Path) -> Images | str:
    """Read one picture as an image (28, 28); return the reason if that fails."""
    try:
        if not path.is_file():
            return "a folder that cannot be listed" if path.is_dir() else "not a file"
        with path.open("rb") as file:
            content = file.read(MAX_PICTURE_BYTES + 1)
        if len(content) > MAX_PICTURE_BYTES:
            return f"larger than {MAX_PICTURE_BYTES:,} bytes"
        return read_image(content, DEFAULT_LIMITS.max_pixels)
    except OSError as error:
        return error.strerror or str(error)
    except InvalidImage as error:
        return str(error)


def _read_all(paths: Sequence[Path]) -> Iterator[Images | str]:
    """Yield what `_read` returns of each path, in order; in parallel if they are many."""
    n = min(allowed_cpus(), len(paths) // (MIN_PARALLEL // 2))
    if n < 2:
        yield from map(_read, paths)
        return
    # a fork would copy the locks of other threads
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"))
    try:
        with _ignoring_interrupts():  # the processes inherit it: this one stops them
            results = pool.map(_read, paths, chunksize=CHUNK)
        yield from results
    except BrokenProcessPool as error:
        message = "a process that read pictures was killed; is there too little memory?"
        raise InvalidData(message) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C within the block."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _list_failed(failed: dict[Path, str], n: int) -> None:
    """Print which of n pictures were not read, and why."""
    if failed:
        print(f"{len(failed):,} of {n:,} pictures cannot be read:", file=sys.stderr)
        lines = [f"  {path}: {reason}" for path, reason in failed.items()]
        print(*lines[:MAX_LISTED], sep="\n", file=sys.stderr)
        if len(lines) > MAX_LISTED:
            print(f"  and {len(lines) - MAX_LISTED:,} more", file=sys.stderr)
