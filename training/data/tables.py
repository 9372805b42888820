"""MNIST's digits in the files of other libraries: Keras's mnist.npz, Kaggle's train.csv."""

import gzip
import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from service.classifier import ALL_CLASSES
from service.features import IMAGE_SIZE
from training.data.dataset import TEST_DIVISOR, DataSet, Digits, InvalidData, to_digits
from training.data.mnist import GZIP_MAGIC

KERAS_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MAX_NPZ_BYTES = 2 * 2**30  # uncompressed: 2 million images
N_COLUMNS = 1 + IMAGE_SIZE[0] * IMAGE_SIZE[1]  # the label and the grey levels
MAX_LINE = 2**14  # characters: 785 numbers of 3 digits have 3,140
EMPTY = np.empty((0, N_COLUMNS), np.uint8)
BLOCK = 2_000  # lines that are parsed at a time


def load_npz(path: Path) -> DataSet:
    """Read the arrays x_train, y_train, x_test and y_test, as Keras names them.

    images (n, 28, 28) or (n, 784), grey levels or fractions; labels (n,). Objects are not
    unpickled. Raises InvalidData with the path.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
            names = archive.namelist()
        if names and not any(name.endswith(".npy") for name in names):
            raise InvalidData("an archive without arrays; unpack it and pass its folder")
        if n_bytes > MAX_NPZ_BYTES:
            raise InvalidData(f"{n_bytes:,} bytes uncompressed, more than {MAX_NPZ_BYTES:,}")
        with np.load(path, allow_pickle=False) as arrays:
            if not set(KERAS_ARRAYS) <= set(arrays):
                found = ", ".join(list(arrays)[: len(KERAS_ARRAYS)]) or "nothing"
                raise InvalidData(f"it has {found}; expected {', '.join(KERAS_ARRAYS)}")
            train, test = (to_digits(arrays[f"x_{p}"], arrays[f"y_{p}"]) for p in ("train", "test"))
    except InvalidData as error:
        raise InvalidData(f"{path}: {error}") from error
    # an archive of damaged headers: any error is possible
    except Exception as error:
        raise InvalidData(f"{path}: not an .npz file of arrays of numbers ({error})") from error
    return DataSet(path.name, train, test)


def load_csv(path: Path, seed: int) -> DataSet:
    """Read lines of a label and 784 grey levels, with or without a line of names.

    The file may be gzipped. A fifth of each class, chosen by the seed, is the test set.
    Raises InvalidData with the path and the line.
    """
    try:
        table = _table(path)
    except InvalidData as error:
        raise InvalidData(f"{path}, {error}") from error
    except (OSError, EOFError, ValueError) as error:
        raise InvalidData(f"{path}: {error}") from error
    if len(table) == 0:
        raise InvalidData(f"{path}: no line with a label and {N_COLUMNS - 1} grey levels")
    images = table[:, 1:].reshape(-1, *IMAGE_SIZE)
    train, test = Digits(images, table[:, 0]).parted(TEST_DIVISOR, seed)
    return DataSet(path.name, train, test)


def _table(path: Path) -> npt.NDArray[np.uint8]:
    """Parse all lines of a file: (n, 785)."""
    blocks = [EMPTY]
    with (
        open_text(path) as file,
        tqdm(desc=path.name, unit=" lines", disable=None, leave=False) as bar,
    ):
        lines = enumerate(_lines(file), 1)
        while block := list(itertools.islice(lines, BLOCK)):
            blocks.append(_parsed(block))
            bar.update(len(block))
    return np.concatenate(blocks)


def open_text(path: Path) -> IO[str]:
    """Open a text file that may be gzipped."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    opener = gzip.open if is_gzip else open
    return opener(path, "rt", encoding="utf-8-sig")


def _lines(file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file; raise InvalidData for one that is longer than a row."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise InvalidData(f"line {number}: longer than {MAX_LINE:,} characters")
        yield line


def _parsed(lines: list[tuple[int, str]]) -> npt.NDArray[np.uint8]:
    """Parse numbered lines: (n, 785) uint8. Raises InvalidData with the first wrong line."""
    number, line = lines[0]
    names = [name.strip('" \r\n') for name in line.split(",")]
    if number == 1 and not names[0].isdigit():
        if names[0].lower() != "label" or len(names) != N_COLUMNS:
            raise InvalidData(_wrong(1, f"{len(names)} columns, the first named {names[0]!r:.40}"))
        lines = lines[1:]
    lines = [(number, line) for number, line in lines if line.strip()]
    if not lines:
        return EMPTY
    try:
        return _numbers([line for _, line in lines])
    except ValueError:
        for number, line in lines:
            try:
                _numbers([line])
            except ValueError as error:
                raise InvalidData(_wrong(number, str(error))) from error
        raise  # each line alone is valid


def _wrong(number: int, what: str) -> str:
    expected = f"the label from 0 to 9, then {N_COLUMNS - 1} grey levels from 0 to 255"
    return f"line {number}: {what}; expected {expected}"


def _numbers(lines: list[str]) -> npt.NDArray[np.uint8]:
    """Parse lines of a label and grey levels; raise ValueError for any other."""
    rows = np.loadtxt(lines, np.uint8, delimiter=",", comments=None, quotechar='"', ndmin=2)
    if rows.shape[1] != N_COLUMNS:
        raise ValueError(f"{rows.shape[1]} columns")
    wrong = rows[~np.isin(rows[:, 0], ALL_CLASSES), 0]
    if len(wrong):
        raise ValueError(f"label {wrong[0]}")
    return rows
