"""Data sets by the name that --data takes."""

import collections
import contextlib
import dataclasses
import gzip
import hashlib
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from service.images import begins_like_picture
from training.data.arrays import ARRAYS, has_arrays, load_arrays
from training.data.class_folders import (
    begins_with_pictures,
    has_class_folders,
    is_among_pictures,
    load_pictures,
)
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import GZIP_MAGIC, IDX_DIMENSIONS, SHA256, file_names, load_mnist
from training.data.pickled import load_pickle
from training.data.synthetic import draw_digits
from training.data.tables import load_csv, load_npz

MNIST_FILES = tuple(itertools.chain.from_iterable(map(file_names, SHA256)))
MNIST_FOLDERS = ("", "raw", "MNIST/raw")  # torchvision's, in MNIST's folder and in its root
# files of other libraries and tutorials, in a folder of their own
FILES = ("mnist.npz", "train.csv", "train.csv.gz", "mnist.pkl.gz")
HEAD = 16  # bytes of a file that decide what it is
ZIP_MAGIC, NPY_MAGIC, IDX_MAGIC = b"PK", b"\x93NUMPY", b"\0\0\x08"
PICKLES = (GZIP_MAGIC, b"\x80", b"(")  # the article's file; of protocols from 2 on, and before
SHOWN = 5  # names or kinds of files that a message lists
MAX_SHOWN_FILES = 10_000  # that are counted for a message, in a folder and in those below it
MAX_SEARCHED = 1_000  # folders that are searched for class folders, for a message
TAR_MAGIC, TAR_START = b"ustar", 257  # its place in a file
ACCEPTED = (
    "accepted are pictures in folders named 0 to 9, such as 7/scan.png; a folder with "
    f"{', '.join(ARRAYS)}; MNIST's four files, or torchvision's root of them; Keras's mnist.npz, "
    "Kaggle's train.csv, the article's mnist.pkl.gz; and the word synthetic"
)


class InvalidOutput(ValueError):
    """An output path that would overwrite an input."""


def load_data(source: str, cache: Path, seed: int = 0) -> DataSet:
    """Load the data set that --data names; without a name, MNIST.

    The seed chooses the test rows of a source that has no test set. Raises InvalidData
    with what was found and what is accepted.
    """
    if source == "synthetic":
        return draw_digits()
    mnist = partial(load_mnist, cache=cache / "mnist")
    try:
        data = _loader(Path(source), seed, mnist)() if source else mnist(None)
    except OSError as error:
        raise InvalidData(f"{error.filename or source}: {error.strerror}") from error
    return dataclasses.replace(data, is_own=not _is_mnist(data))


def _loader(path: Path, seed: int, mnist: Callable[[Path], DataSet]) -> Callable[[], DataSet]:
    """Return the function that loads a path, by what is there."""
    if path.is_file():
        return _file_loader(path, seed)
    if not path.is_dir():
        raise InvalidData(f"{path} is neither a file nor a folder; {ACCEPTED}")
    for folder in (path / name for name in MNIST_FOLDERS):
        if any((folder / name).exists() for name in MNIST_FILES):
            return partial(mnist, folder)
    if has_arrays(path):
        return partial(load_arrays, path)
    if has_class_folders(path):
        return partial(load_pictures, path, seed)
    for file in (path / name for name in FILES):
        if file.is_file():
            return _file_loader(file, seed)
    raise InvalidData(f"{path} {_found(path)}; {ACCEPTED}")


def _file_loader(path: Path, seed: int) -> Callable[[], DataSet]:
    """Return the function that loads a file, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if begins_like_picture(head):
        where = "a folder named by its digit, and name the folder above with --data"
        raise InvalidData(f"{path} is a picture; put it into {where}")
    if head.startswith(ZIP_MAGIC):
        return partial(load_npz, path)
    if head.startswith(NPY_MAGIC):
        raise InvalidData(f"{path} is a single array; name a folder with {', '.join(ARRAYS)}")
    if (start := _decompressed(path)).startswith(IDX_MAGIC):
        raise InvalidData(f"{path} is a single IDX file; name the folder of MNIST's four files")
    if start[TAR_START:].startswith(TAR_MAGIC):
        raise InvalidData(f"{path} is an archive; unpack it and name its folder")
    line = start[:HEAD].decode(errors="replace").partition("\n")[0]
    if "," in line and line.strip("\ufeff\r").isprintable():
        return partial(load_csv, path, seed)
    if head.startswith(PICKLES):
        return partial(load_pickle, path)
    raise InvalidData(f"{path} begins with {head!r}; {ACCEPTED}")


def _decompressed(path: Path) -> bytes:
    """Return the first bytes of a file, decompressed if it is gzip; b"" if it is damaged."""
    with path.open("rb") as file, contextlib.suppress(OSError, EOFError, zlib.error):
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        return (gzip.GzipFile(fileobj=file) if is_gzip else file).read(TAR_START + HEAD)
    return b""


def _found(folder: Path) -> str:
    """Describe a folder that is no data set, with a guess of what was meant."""
    paths = sorted(itertools.islice(folder.iterdir(), MAX_SHOWN_FILES))
    if not paths:
        return "is empty"
    folders = [*filter(os.path.isdir, paths)]
    below = filter(os.path.isdir, itertools.islice(_below(folders), MAX_SHOWN_FILES))
    nearby = itertools.chain(folders, [folder.parent], below)
    for near in itertools.islice(nearby, MAX_SEARCHED):
        if has_class_folders(near) and begins_with_pictures(near):
            return f"has no folders named 0 to 9; did you mean {near}?"
    kinds = collections.Counter(path.suffix or path.name for path in paths if not path.is_dir())
    parts = [f"{n:,} {kind}" for kind, n in kinds.most_common(SHOWN)]
    if folders:
        names = ", ".join(path.name for path in folders[:SHOWN])
        more = ", ..." * (len(folders) > SHOWN)
        parts.insert(0, f"{len(folders):,} folder{'s' * (len(folders) > 1)} ({names}{more})")
    return f"has {' and '.join(parts)}"


def _below(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield what is in some folders, but for those that cannot be listed."""
    for folder in folders:
        with contextlib.suppress(OSError):
            yield from folder.iterdir()


def _is_mnist(data: DataSet) -> bool:
    """Return whether the training images are MNIST's, from whatever file."""
    images = np.ascontiguousarray(data.train.images)
    magic = {n: magic for magic, n in IDX_DIMENSIONS.items()}[images.ndim]
    header = struct.pack(f">{1 + images.ndim}I", magic, *images.shape)
    digest = hashlib.sha256(header)
    digest.update(images.data)
    return digest.hexdigest() == SHA256["train-images-idx3-ubyte"]


def protect_data(output: Path, source: str) -> None:
    """Raise InvalidOutput if a path is a file of the data set that --data names."""
    data = Path(source).resolve()
    inside = output.relative_to(data).parts if output.is_relative_to(data) else ()
    is_input = output.suffix == ".npy" or output.name in (*MNIST_FILES, *FILES)
    if source and (output == data or (inside and (is_input or is_among_pictures(inside)))):
        raise InvalidOutput(f"--output: {output} is a file of --data")
