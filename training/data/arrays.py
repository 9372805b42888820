"""Digits of one's own: a folder of .npy files, which are mapped and not read whole."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.classifier import ALL_CLASSES
from service.features import IMAGE_SIZE
from training.data.dataset import DataSet, Digits, InvalidData

IMAGES, LABELS = "{}-images.npy", "{}-labels.npy"  # of "train" and of "test"


def has_arrays(folder: Path) -> bool:
    """Tell whether there are digits in .npy files in a folder."""
    return any(folder.glob("*.npy"))


def load_arrays(folder: Path) -> DataSet:
    """Map the four files of a folder; raise InvalidData, with the file's path.

    images (n, 28, 28) uint8, light on dark, framed as MNIST's; labels (n,) integers
    """
    train, test = (_digits(folder, part) for part in ("train", "test"))
    return DataSet(folder.resolve().name, train, test)


def _digits(folder: Path, part: str) -> Digits:
    path = folder / LABELS.format(part)
    images, labels = _mapped(folder / IMAGES.format(part)), _mapped(path)
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SIZE:
        raise InvalidData(
            f"{folder / IMAGES.format(part)}: {images.dtype} of shape {images.shape}, "
            f"not uint8 of (n, {IMAGE_SIZE[0]}, {IMAGE_SIZE[1]})"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise InvalidData(
            f"{path}: {labels.dtype} of shape {labels.shape}, not integers of "
            f"({len(images)},)"
        )
    wrong = labels[~np.isin(labels, ALL_CLASSES)]
    if len(wrong):
        raise InvalidData(f"{path}: a label is {wrong[0]}, not a digit from 0 to 9")
    return Digits(images, labels.astype(np.uint8))


def _mapped(path: Path) -> npt.NDArray[np.generic]:
    if not path.is_file():
        raise InvalidData(f"{path}: no such file, and the folder has others of .npy")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a header is a Python literal: it fails in many ways
        raise InvalidData(f"{path}: not an .npy file ({error})") from error
