"""The design matrix: a row of features for every digit and for its jittered copies."""

import contextlib
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_info
from tqdm import tqdm

from service import features as features_module
from service.features import FEATURES, MAX_GREY, Images, n_features
from training.data.atomic import replacing
from training.data.dataset import Digits
from training.design import augment as augment_module
from training.design.augment import COPIES, jittered
from training.design.rows import Rows

BLOCK = 1000  # images that are computed at a time
LARGE = 64 * 2**20  # bytes: what has more is mapped from the cache, not held in memory
VAST = 2**30  # bytes: what has more is shuffled in blocks
BLOCK_ROWS = 4096  # of these
ABANDONED = 3600  # seconds for which nothing was written to a file
Matrix = npt.NDArray[np.float32 | np.float16 | np.uint8]


def design_matrix(
    parts: Sequence[Digits],
    features: str,
    n_copies: int,
    cache: Path,
    purpose: str = "train",
) -> Rows:
    """Compute the rows of the digits of all parts, then of each copy of them.

    Pixels stay bytes. Other features are float32, with copies, when they are many,
    float16. Copies, and what is large, are kept in the cache, one matrix for each
    purpose, to be found again by the digest of all they come from: memory holds what
    is being read of them.
    """
    dtype = _dtype(features, n_copies)
    n = sum(map(len, parts)) * (1 + n_copies)
    shape = n, n_features(features) + 1
    n_bytes = math.prod(shape) * dtype.itemsize
    labels = np.concatenate([part.labels for part in parts]).astype(np.int64)
    matrix = None
    if n_copies or n_bytes > LARGE:
        path = cache / f"{purpose}-{_digest(parts, features, n_copies)}.npy"
        matrix = _mapped(path, shape, dtype)
        if matrix is None:
            with contextlib.suppress(OSError):
                _write(parts, features, n_copies, shape, path)
                matrix = _mapped(path, shape, dtype)
    if matrix is None:
        # torch's memory is aligned as a file's, when it is mapped, and numpy's is not
        like = torch.from_numpy(np.empty(0, dtype))
        matrix = torch.empty(shape, dtype=like.dtype).numpy()
        first = 0
        for block in _blocks(parts, features, n_copies):
            matrix[first : first + len(block)] = block
            first += len(block)
    return Rows(
        torch.from_numpy(matrix),
        torch.from_numpy(labels).repeat(1 + n_copies),
        MAX_GREY if features == "pixels" else 1,
        block=BLOCK_ROWS if n_bytes > VAST else None,
    )


def _dtype(features: str, n_copies: int) -> np.dtype[np.generic]:
    if features == "pixels":
        return np.dtype(np.uint8)
    return np.dtype(np.float16 if n_copies else np.float32)


def _mapped(
    path: Path, shape: tuple[int, int], dtype: np.dtype[np.generic]
) -> Matrix | None:
    """Map a matrix of the cache into memory; give None if there is none that is whole.

    In mode "c" nothing is written to the file, and torch takes it without a warning.
    """
    if not path.is_file():
        return None
    with contextlib.suppress(Exception):  # a damaged header fails in many ways
        matrix = np.lib.format.open_memmap(path, mode="c")
        if (matrix.shape, matrix.dtype) == (shape, dtype) and matrix.flags.c_contiguous:
            return matrix
    return None


def _write(
    parts: Sequence[Digits],
    features: str,
    n_copies: int,
    shape: tuple[int, int],
    path: Path,
) -> None:
    """Write the matrix as it is computed, in place of the last of its purpose."""
    purpose = path.name.partition("-")[0]
    for old in path.parent.glob(f"{purpose}-*.npy"):
        old.unlink()
    for partial in path.parent.glob(f".{purpose}-*.npy.*"):  # of jobs that were killed
        if time.time() - partial.stat().st_mtime > ABANDONED:
            partial.unlink()
    descr = np.lib.format.dtype_to_descr(_dtype(features, n_copies))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with replacing(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(parts, features, n_copies):
            file.write(block.data)


def _blocks(parts: Sequence[Digits], features: str, n_copies: int) -> Iterator[Matrix]:
    """Compute the rows (.., D + 1) of some images after others; the last is φ_0."""
    dtype = _dtype(features, n_copies)
    n = sum(map(len, parts)) * (1 + n_copies)
    with tqdm(desc="φ", total=n, unit="row", disable=None, leave=False) as bar:
        for copy in range(1 + n_copies):
            generator = torch.Generator().manual_seed(copy)
            for images in _images(parts):
                if copy > 0:
                    images = jittered(images, COPIES[copy - 1], generator)
                block = np.empty((len(images), n_features(features) + 1), dtype)
                if features == "pixels":
                    block[:, :-1], block[:, -1] = _flat(images), MAX_GREY
                else:
                    block[:, :-1], block[:, -1] = FEATURES[features](images), 1
                bar.update(len(images))
                yield block


def _images(parts: Sequence[Digits]) -> Iterator[Images]:
    for part in parts:
        for first in range(0, len(part), BLOCK):
            yield part.images[first : first + BLOCK]


def _flat(images: Images) -> npt.NDArray[np.uint8]:
    """Lay out the grey levels as rows: φ of pixels is these / MAX_GREY."""
    return images.reshape(len(images), -1)


def _digest(parts: Sequence[Digits], features: str, n_copies: int) -> str:
    """Digest all that a matrix depends on: its code, and how numpy multiplies here."""
    kernels = sorted({str(each.get("architecture")) for each in threadpool_info()})
    versions = f"{np.__version__} {torch.__version__} {kernels}"
    digest = hashlib.sha256(f"{features} {n_copies} {versions}".encode())
    for file in (features_module.__file__, augment_module.__file__, __file__):
        digest.update(Path(file).read_bytes())
    for part in parts:
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(np.ascontiguousarray(part.labels).data)
    return digest.hexdigest()
