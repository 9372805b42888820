"""Labelled digits."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import ALL_CLASSES
from service.features import IMAGE_SIZE, MAX_GREY, Images

Labels = npt.NDArray[np.uint8]
TEST_DIVISOR = 5  # 1/5 of each class is the test set, where a source has none


class InvalidData(ValueError):
    """Training data that is missing, damaged or of the wrong kind."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Images (n, 28, 28) uint8, light on dark, and labels (n,) uint8 in 0..9."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, stop: int) -> "Digits":
        """Return the rows start..stop-1."""
        return Digits(self.images[start:stop], self.labels[start:stop])

    def parted(self, divisor: int, seed: int) -> tuple["Digits", "Digits"]:
        """Split off 1 / divisor of each class, at least one row, at random.

        Returns the other rows and the chosen ones, both in the order of these rows.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        chosen = np.zeros(len(self), bool)
        for label in np.unique(self.labels):
            of_class = order[self.labels[order] == label]
            chosen[of_class[: max(1, len(of_class) // divisor)]] = True
        return (
            Digits(self.images[~chosen], self.labels[~chosen]),
            Digits(self.images[chosen], self.labels[chosen]),
        )

    def __add__(self, other: "Digits") -> "Digits":
        """Return these rows followed by the rows of another."""
        return Digits(
            np.concatenate([self.images, other.images]), np.concatenate([self.labels, other.labels])
        )

    def of_classes(self, classes: tuple[int, ...]) -> "Digits":
        """Return the digits of these classes, labelled with the class indices."""
        if classes == ALL_CLASSES:
            return self  # without a copy: the images may be larger than memory
        kept = np.isin(self.labels, classes)
        index = np.zeros(len(ALL_CLASSES), np.uint8)
        index[list(classes)] = np.arange(len(classes))
        return Digits(self.images[kept], index[self.labels[kept]])


@dataclass(frozen=True, eq=False)
class DataSet:
    """Digits to train on and digits to test on, with the name of their source.

    is_own: neither MNIST nor synthetic, so that nothing is known of its size and order.
    """

    name: str
    train: Digits
    test: Digits
    is_own: bool = False

    @property
    def classes(self) -> tuple[int, ...]:
        """The digits that occur in the training rows."""
        return tuple(np.unique(self.train.labels).tolist())

    def sha256(self) -> str:
        """Return the SHA-256 of all pixels and labels, training rows first."""
        digest = hashlib.sha256()
        for digits in (self.train, self.test):
            digest.update(np.ascontiguousarray(digits.images).data)
            digest.update(np.ascontiguousarray(digits.labels).data)
        return digest.hexdigest()


def to_digits(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Digits:
    """Convert n images of 784 numbers each, in any shape, to images of grey levels.

    Fractions of at most 1 are multiplied by 256 if all are below 1, as in the article's
    file, and otherwise by 255; so are integers that are all 0 or 1. Other numbers are grey
    levels. Raises InvalidData for numbers beyond 0..255 and for labels that are no digits.
    """
    n = len(labels) if labels.ndim else 0
    if images.ndim < 2 or len(images) != n or math.prod(images.shape[1:]) != math.prod(IMAGE_SIZE):
        raise InvalidData(f"images {images.shape} and labels {labels.shape}, expected (n, 28, 28)")
    if images.dtype.kind not in "uif" or labels.size != n or not np.isin(labels, ALL_CLASSES).all():
        raise InvalidData(
            f"labels {labels.shape} are not digits from 0 to 9 of images {images.shape}"
        )
    low, high = (images.min(), images.max()) if n else (0, 0)
    if not 0 <= low <= high <= MAX_GREY:  # not for NaN
        raise InvalidData(f"images range from {low} to {high}, expected 0 to 1 or 0 to 255")
    scale = 1 if high > 1 else MAX_GREY if high == 1 else MAX_GREY + 1
    is_exact = scale == 1 and images.dtype.kind in "ui"
    levels = images if is_exact else np.rint(images * np.float32(scale))
    return Digits(
        levels.astype(np.uint8).reshape(-1, *IMAGE_SIZE), labels.reshape(-1).astype(np.uint8)
    )
