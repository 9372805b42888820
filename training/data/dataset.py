"""Labelled digits."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.classifier import ALL_CLASSES
from service.features import Images

Labels = npt.NDArray[np.uint8]


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
    """Digits to train on and digits to test on, with the name of their source."""

    name: str
    train: Digits
    test: Digits

    def sha256(self) -> str:
        """Return the SHA-256 of all pixels and labels, training rows first."""
        digest = hashlib.sha256()
        for digits in (self.train, self.test):
            digest.update(np.ascontiguousarray(digits.images).data)
            digest.update(np.ascontiguousarray(digits.labels).data)
        return digest.hexdigest()
