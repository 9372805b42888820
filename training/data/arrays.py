"""A data set in a folder of .npy files, memory-mapped."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import ALL_CLASSES
from service.features import IMAGE_SIZE
from training.data.dataset import DataSet, Digits, InvalidData

IMAGES, LABELS = "{}-images.npy", "{}-labels.npy"  # of "train" and of "test"
ARRAYS = tuple(name.format(part) for part in ("train", "test") for name in (IMAGES, LABELS))


def has_arrays(folder: Path) -> bool:
    """Return whether a folder contains one of the four files."""
    return any((folder / name).is_file() for name in ARRAYS)


def load_arrays(folder: Path) -> DataSet:
    """Map the four files of a folder into memory.

    images (n, 28, 28) uint8, light on dark, normalised as MNIST; labels (n,) integers.
    Raises InvalidData with the path of the file.
    """
    train, test = (_digits(folder, part) for part in ("train", "test"))
    return DataSet(folder.resolve().name, train, test)


def _digits(folder: Path, part: str) -> Digits:
    path = folder / LABELS.format(part)
    images, labels = _mapped(folder / IMAGES.format(part)), _mapped(path)
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SIZE:
        raise InvalidData(
            f"{folder / IMAGES.format(part)}: {images.dtype} of shape {images.shape}, "
            f"expected uint8 of shape (n, {IMAGE_SIZE[0]}, {IMAGE_SIZE[1]})"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise InvalidData(
            f"{path}: {labels.dtype} of shape {labels.shape}, expected integers of "
            f"shape ({len(images)},)"
        )
    wrong = labels[~np.isin(labels, ALL_CLASSES)]
    if len(wrong):
        raise InvalidData(f"{path}: label {wrong[0]} is not a digit from 0 to 9")
    return Digits(images, labels.astype(np.uint8))


def _mapped(path: Path) -> npt.NDArray[Any]:
    if not path.is_file():
        raise InvalidData(f"{path}: no such file; the folder needs all four .npy files")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the header is a Python literal: any error is possible
        raise InvalidData(f"{path}: not an .npy file ({error})") from error
