"""The design matrix: a row of features for every digit and for its jittered copies."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from service import features as features_module
from service.features import FEATURES, MAX_GREY, Images, n_features
from training import augment as augment_module
from training.augment import COPIES, jittered
from training.data import Digits
from training.files import replacing
from training.rows import Rows

BLOCK = 1000  # images between two steps of the progress bar
Matrix = npt.NDArray[np.float32 | np.float16 | np.uint8]


def design_matrix(digits: Digits, features: str, n_copies: int, cache: Path) -> Rows:
    """Compute the rows of the digits, then of each copy of them.

    Pixels stay bytes. Other features are float32, with copies, when they are many,
    float16. Copies are kept in the cache, one matrix at a time, to be found again by
    the digest of all they come from.
    """
    one = MAX_GREY if features == "pixels" else 1
    labels = torch.from_numpy(digits.labels.astype(np.int64)).repeat(1 + n_copies)
    if n_copies == 0:
        return Rows(torch.from_numpy(_compute(digits, features, 0)), labels, one)
    path = cache / f"{_digest(digits, features, n_copies)}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        return Rows(torch.from_numpy(np.load(path)), labels, one)
    matrix = _compute(digits, features, n_copies)
    with contextlib.suppress(OSError):
        for old in cache.glob("*.npy"):
            old.unlink()
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, matrix)
    return Rows(torch.from_numpy(matrix), labels, one)


def _compute(digits: Digits, features: str, n_copies: int) -> Matrix:
    """Compute Φ ((1 + copies) n, D + 1) as it is stored; the last column is φ_0."""
    n, shape = len(digits), ((1 + n_copies) * len(digits), n_features(features) + 1)
    if features == "pixels":
        phi, matrix = _bytes, np.full(shape, MAX_GREY, np.uint8)
    else:
        phi = FEATURES[features]
        matrix = np.ones(shape, np.float16 if n_copies else np.float32)
    with tqdm(
        desc="φ", total=len(matrix), unit="row", disable=None, leave=False
    ) as bar:
        for copy in range(1 + n_copies):
            generator = torch.Generator().manual_seed(copy)
            for first in range(0, n, BLOCK):
                images = digits.images[first : first + BLOCK]
                if copy > 0:
                    images = jittered(images, COPIES[copy - 1], generator)
                start = copy * n + first
                matrix[start : start + len(images), :-1] = phi(images)
                bar.update(len(images))
    return matrix


def _bytes(images: Images) -> npt.NDArray[np.uint8]:
    """Lay out the grey levels as rows: φ of pixels is these / MAX_GREY."""
    return images.reshape(len(images), -1)


def _digest(digits: Digits, features: str, n_copies: int) -> str:
    """Digest all that a matrix depends on, the code that computes it included."""
    versions = f"{np.__version__} {torch.__version__}"
    digest = hashlib.sha256(f"{features} {n_copies} {versions}".encode())
    for file in (features_module.__file__, augment_module.__file__, __file__):
        digest.update(Path(file).read_bytes())
    digest.update(np.ascontiguousarray(digits.images).data)
    digest.update(np.ascontiguousarray(digits.labels).data)
    return digest.hexdigest()
