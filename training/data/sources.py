"""Data sets by the name that --data takes."""

import collections
import dataclasses
import hashlib
import itertools
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from service.images import begins_like_picture
from training.data.arrays import has_arrays, load_arrays
from training.data.class_folders import CLASS_NAMES, class_folders, load_pictures
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import GZIP_MAGIC, IDX_DIMENSIONS, SHA256, load_mnist
from training.data.pickled import load_pickle
from training.data.synthetic import draw_digits
from training.data.tables import load_csv, load_npz, open_text

# plain and compressed
MNIST_FILES = tuple(f"{name}{suffix}" for name in SHA256 for suffix in ("", ".gz"))
MNIST_FOLDERS = ("", "raw", "MNIST/raw")  # torchvision's, in MNIST's folder and in its root
# files of other libraries and tutorials, in a folder of their own
FILES = ("mnist.npz", "train.csv", "train.csv.gz", "mnist.pkl.gz")
HEAD = 16  # bytes or characters of a file that decide what it is
ZIP_MAGIC = b"PK"
PICKLES = (GZIP_MAGIC, b"\x80", b"(")  # the article's file; of protocols from 2 on, and before
SHOWN = 5  # names or kinds of files that a message lists
MAX_SHOWN_FILES = 10_000  # that are counted for a message
ACCEPTED = """accepted are
  a folder of pictures in folders named 0 to 9, such as 7/scan.png
  a folder with train-images.npy, train-labels.npy, test-images.npy and test-labels.npy
  a folder with MNIST's four files, or torchvision's root of it
  Keras's mnist.npz, Kaggle's train.csv, the article's mnist.pkl.gz
  the word synthetic"""


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
    data = _loader(Path(source), seed, mnist)() if source else mnist(None)
    return dataclasses.replace(data, is_own=not _is_mnist(data))


def _loader(path: Path, seed: int, mnist: Callable[[Path], DataSet]) -> Callable[[], DataSet]:
    """Return the function that loads a path, by what is there."""
    if path.is_file():
        return _file_loader(path, seed)
    if not path.is_dir():
        raise InvalidData(f"--data: {path} is neither a file nor a folder; {ACCEPTED}")
    for folder in (path / name for name in MNIST_FOLDERS):
        if any((folder / name).exists() for name in MNIST_FILES):
            return partial(mnist, folder)
    if has_arrays(path):
        return partial(load_arrays, path)
    if class_folders(path):
        return partial(load_pictures, path, seed)
    for file in (path / name for name in FILES):
        if file.is_file():
            return _file_loader(file, seed)
    if any(path.iterdir()):
        raise InvalidData(f"--data: {path} {_found(path)}; {ACCEPTED}")
    return partial(mnist, path)  # an empty folder: MNIST is taken from the cache


def _file_loader(path: Path, seed: int) -> Callable[[], DataSet]:
    """Return the function that loads a file, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InvalidData(f"--data: {path}: {error.strerror}") from error
    if begins_like_picture(head):
        where = "a folder named by its digit, and name the folder above with --data"
        raise InvalidData(f"--data: {path} is a picture; put it into {where}")
    if head.startswith(ZIP_MAGIC):
        return partial(load_npz, path)
    try:
        with open_text(path) as text:
            start = text.read(HEAD)
    except (OSError, EOFError, ValueError):  # no text, or a damaged gzip file
        start = ""
    if "," in start and (start.splitlines() or [""])[0].isprintable():
        return partial(load_csv, path, seed)
    if head.startswith(PICKLES):
        return partial(load_pickle, path)
    raise InvalidData(f"--data: {path} begins with {head!r}; {ACCEPTED}")


def _found(folder: Path) -> str:
    """Describe a folder that is no data set, with a guess of what was meant."""
    paths = sorted(itertools.islice(folder.iterdir(), MAX_SHOWN_FILES))
    folders = [path for path in paths if path.is_dir()]
    for near in (*folders, folder.parent):
        if class_folders(near):
            return f"has no folders named 0 to 9; did you mean {near}?"
    kinds = collections.Counter(path.suffix or path.name for path in paths if not path.is_dir())
    parts = [f"{n:,} {kind}" for kind, n in kinds.most_common(SHOWN)]
    if folders:
        names = ", ".join(path.name for path in folders[:SHOWN])
        parts.insert(0, f"{len(folders):,} folders ({names}{', ...' * (len(folders) > SHOWN)})")
    return f"has {' and '.join(parts)}"


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
    if source and (output == data or (inside and (is_input or inside[0] in CLASS_NAMES))):
        raise InvalidOutput(f"--output: {output} is a file of --data")
