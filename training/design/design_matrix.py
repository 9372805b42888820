"""The design matrix: one row of features for every digit and augmented copy."""

import contextlib
import hashlib
import math
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
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
from training.design.augment import AUGMENTATIONS, augment
from training.design.rows import Rows

BLOCK = 1000  # images that are computed at a time
MAX_HELD = 64 * 2**20  # bytes: a larger matrix is mapped from the cache
MAX_SHUFFLED = 2**30  # bytes: a larger matrix is shuffled in blocks
SHUFFLED_ROWS = 256  # rows of such a block
CHECKSUM_BYTES = 4  # of the CRC-32 behind the matrix: 1/4 s per GiB
PARTIAL_EXPIRY = 3600  # seconds without a write, after which a partial file is deleted
Matrix = npt.NDArray[np.float32 | np.float16 | np.uint8]


def design_matrix(
    parts: Sequence[Digits],
    features: str,
    n_copies: int,
    cache: Path,
    purpose: str = "train",
    *,
    n_rare_copies: int = 0,
    max_held: int = MAX_HELD,
    max_shuffled: int = MAX_SHUFFLED,
) -> Rows:
    """Compute the rows of all parts, then augmented copies of the first two.

    The first has `n_copies`, the second, if there is one, `n_rare_copies`.

    Pixels stay uint8. Other features are float32, or float16 with copies. A matrix
    with copies, or of more than `max_held` bytes, is written to the cache and mapped,
    so that its size does not add to the memory of the process. The cache keeps one
    matrix for each purpose, identifies it by a digest of its inputs and code, and
    verifies it by a checksum.
    """
    source = _Source(parts, features, (n_copies, n_rare_copies))
    n_bytes = math.prod(source.shape) * source.dtype.itemsize
    matrix = None
    if source.has_copies or n_bytes > max_held:
        path = cache / f"{purpose}-{source.digest()}.npy"
        matrix = _mapped(source, path)
        if matrix is None:
            with contextlib.suppress(OSError):  # a cache that cannot be written
                _write(source, path)
                matrix = _mapped(source, path)
    if matrix is None:
        matrix = _computed(source)
    labels = np.concatenate([digits.labels for _, digits in source.order])
    return Rows(
        torch.from_numpy(matrix),
        torch.from_numpy(labels.astype(np.int64)),
        source.one,
        block=SHUFFLED_ROWS if n_bytes > max_shuffled else None,
    )


@dataclass(frozen=True, eq=False)
class _Source:
    """The digits of a design matrix, its feature map and the copies of its first parts."""

    parts: Sequence[Digits]
    features: str
    n_copies: tuple[int, ...]

    @property
    def has_copies(self) -> bool:
        """Whether there are augmented copies."""
        return any(self.n_copies)

    @property
    def order(self) -> list[tuple[int, Digits]]:
        """The digits of the rows: all parts as copy 0, then each one's copies."""
        copied = zip(self.parts, self.n_copies, strict=False)
        copies = [(i, part) for part, n in copied for i in range(1, 1 + n)]
        return [*((0, part) for part in self.parts), *copies]

    @property
    def shape(self) -> tuple[int, int]:
        n_images = sum(len(digits) for _, digits in self.order)
        return n_images, n_features(self.features) + 1

    @property
    def dtype(self) -> np.dtype[np.uint8 | np.float16 | np.float32]:
        if self.features == "pixels":
            return np.dtype(np.uint8)
        return np.dtype(np.float16 if self.has_copies else np.float32)

    @property
    def one(self) -> int:
        """Return the stored value of φ_0."""
        return MAX_GREY if self.features == "pixels" else 1

    def blocks(self) -> Iterator[Matrix]:
        """Compute the rows in order: (<= 1000, D + 1), φ_0 in the last column."""
        generators = [torch.Generator().manual_seed(copy) for copy in range(1 + max(self.n_copies))]
        blocks = [
            (copy, digits.images[start : start + BLOCK])
            for copy, digits in self.order
            for start in range(0, len(digits), BLOCK)
        ]
        for copy, images in tqdm(blocks, "φ", unit="block", disable=None, leave=False):
            if copy > 0:
                images = augment(images, AUGMENTATIONS[copy - 1], generators[copy])
            block = np.empty((len(images), self.shape[1]), self.dtype)
            block[:, :-1], block[:, -1] = self._features(images), self.one
            yield block

    def _features(self, images: Images) -> Matrix:
        if self.features == "pixels":
            return images.reshape(len(images), -1)  # φ is these divided by `one`
        return FEATURES[self.features](images)

    def digest(self) -> str:
        """Return the SHA-256 of all inputs, the code, and numpy's BLAS kernels."""
        kernels = sorted({str(each.get("architecture")) for each in threadpool_info()})
        versions = f"{np.__version__} {torch.__version__} {kernels}"
        digest = hashlib.sha256(f"{self.features} {self.n_copies} {versions}".encode())
        for file in (features_module.__file__, augment_module.__file__, __file__):
            digest.update(Path(file).read_bytes())
        for part in self.parts:
            digest.update(np.ascontiguousarray(part.images).data)
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()


def _computed(source: _Source) -> Matrix:
    """Compute the matrix in memory."""
    # torch aligns its memory as mmap does, and numpy does not
    like = torch.from_numpy(np.empty(0, source.dtype))
    matrix: Matrix = torch.empty(source.shape, dtype=like.dtype).numpy()
    start = 0
    for block in source.blocks():
        matrix[start : start + len(block)] = block
        start += len(block)
    return matrix


def _mapped(source: _Source, path: Path) -> Matrix | None:
    """Map a cached matrix into memory; None if it is missing or damaged.

    In mode "c" nothing is written to the file, and torch accepts it without a warning.
    """
    if not path.is_file():
        return None
    with contextlib.suppress(Exception):  # any error is possible in a damaged header
        matrix = np.lib.format.open_memmap(path, mode="c")
        is_same = (matrix.shape, matrix.dtype) == (source.shape, source.dtype)
        if is_same and matrix.flags.c_contiguous and _checksum(matrix) == _stored_checksum(path):
            return matrix
    print(f"{path} is damaged: computing it again", file=sys.stderr)
    return None


def _checksum(matrix: Matrix) -> int:
    """Compute the CRC-32 of a matrix."""
    starts = range(0, len(matrix), BLOCK)
    return reduce(lambda crc, start: zlib.crc32(matrix[start : start + BLOCK].data, crc), starts, 0)


def _stored_checksum(path: Path) -> int:
    """Read the CRC-32 at the end of a file."""
    with path.open("rb") as file:
        file.seek(-CHECKSUM_BYTES, os.SEEK_END)
        return int.from_bytes(file.read(), "big")


def _write(source: _Source, path: Path) -> None:
    """Write the matrix block by block, and delete the last one of its purpose."""
    purpose = path.name.partition("-")[0]
    for old in path.parent.glob(f"{purpose}-*.npy"):
        old.unlink()
    for partial in path.parent.glob(f".{purpose}-*.npy.*"):  # of jobs that were killed
        if time.time() - partial.stat().st_mtime > PARTIAL_EXPIRY:
            partial.unlink()
    descr = np.lib.format.dtype_to_descr(source.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": source.shape}
    checksum = 0
    with replacing(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in source.blocks():
            file.write(block.data)
            checksum = zlib.crc32(block.data, checksum)
        file.write(checksum.to_bytes(CHECKSUM_BYTES, "big"))
