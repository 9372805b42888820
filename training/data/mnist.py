"""MNIST from a folder, the cache or a mirror, with verified checksums."""

import contextlib
import gzip
import hashlib
import http.client
import io
import math
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from service.features import IMAGE_SIZE
from training.data.arrays import ARRAYS
from training.data.atomic import replacing
from training.data.dataset import DataSet, Digits, InvalidData

# of the uncompressed bytes, because each mirror has its own compressed files
SHA256 = dict(
    line.split()[::-1]
    for line in """
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 t10k-labels-idx1-ubyte
    """.strip().splitlines()
)
MNIST, PICKLED = "MNIST", "MNIST, pickled"  # names of data sets: of its files, of the article's
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://systemds.apache.org/assets/datasets/mnist/",
    "https://azureopendatastorage.blob.core.windows.net/mnist/",
)
SOCKET_TIMEOUT = 10.0  # seconds without a byte from a mirror
FILE_LIMIT = 120.0  # seconds for one file
MAX_FILE_BYTES = 64 * 2**20  # the largest file has 47,040,016
CHUNK_BYTES = 2**16
GZIP_MAGIC = b"\x1f\x8b"
IDX_DIMENSIONS = {0x00000803: 3, 0x00000801: 1}  # by magic number, unsigned bytes


class OtherDigits(InvalidData):
    """A file of MNIST's name and format that holds other digits."""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's cache folder, or a shared temporary one without HOME."""
    home = environment.get("HOME") or tempfile.gettempdir()
    return Path(environment.get("XDG_CACHE_HOME") or f"{home}/.cache") / "digits"


def file_names(name: str) -> list[str]:
    """Return the names of a file of MNIST's, plain and compressed, also as Kaggle has it."""
    stems = name, name.replace("-idx", ".idx")
    return [f"{stem}{suffix}" for stem in stems for suffix in ("", ".gz")]


def load_mnist(
    folder: Path | None,
    cache: Path,
    mirrors: Sequence[str] = MIRRORS,
    file_limit: float = FILE_LIMIT,
) -> DataSet:
    """Load MNIST from a folder, the cache or a mirror, and cache what was downloaded.

    Every file is verified. A download times out after `file_limit` seconds per file.
    Raises InvalidData with every source that was tried.
    """
    arrays = [parse_idx(_find(name, folder, cache, mirrors, file_limit)) for name in SHA256]
    return DataSet(MNIST, Digits(*arrays[:2]), Digits(*arrays[2:]))


def parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """Parse an IDX file of unsigned bytes: (n, 28, 28) images or (n,) labels.

    A big-endian magic number, the length of each dimension, then the bytes, row-major
    (LeCun, Cortes, Burges, "The MNIST database", file formats).
    """
    n_dimensions = IDX_DIMENSIONS.get(int.from_bytes(content[:4], "big"))
    if n_dimensions is None:
        raise InvalidData(f"not an IDX file of unsigned bytes: it starts with {content[:4]!r}")
    start = 4 + 4 * n_dimensions
    shape = np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4").tolist()
    if len(content) - start != math.prod(shape) or shape[1:] not in ([*IMAGE_SIZE], []):
        raise InvalidData(
            f"IDX file of shape {shape} in {len(content)} bytes, expected one byte per "
            "element of (n, 28, 28) or (n,)"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(
    name: str, folder: Path | None, cache: Path, mirrors: Sequence[str], file_limit: float
) -> bytes:
    """Return the verified bytes of one file from the first source that has them."""
    files, failures = file_names(name), []
    if folder and not any((folder / file).exists() for file in files):
        failures.append(f"  {folder}: no such file")
    paths = [place / file for place in (folder, cache) if place for file in files]
    urls = [f"{mirror}{name}.gz" for mirror in mirrors]
    sources: dict[str, Callable[[], bytes]] = {
        **{str(path): path.read_bytes for path in paths if path.exists()},
        **{url: partial(_download, url, file_limit) for url in urls},
    }
    for source, read in sources.items():
        try:
            received = read()
            content = _verified(name, received)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OtherDigits) and folder and Path(source).parent == folder:
                raise OtherDigits(f"{source}: {error}") from error
            failures.append(f"  {source}: {error}")
            continue
        if source in urls:
            _write_cache(cache / f"{name}.gz", received)
        if failures:
            print(f"read {name} from {source}, because these failed:", file=sys.stderr)
            print(*failures, sep="\n", file=sys.stderr)
        return content
    raise InvalidData(_not_found(name, failures))


def _not_found(name: str, failures: Sequence[str]) -> str:
    sums = "\n".join(f"  {name}  sha256 {digest}" for name, digest in SHA256.items())
    return (
        f"{name} not found. Put MNIST's four files, plain or as .gz, into a folder and "
        f"pass it with --data or DIGITS_MNIST:\n{sums}\n"
        "(SHA-256 of the uncompressed bytes); or train on --data synthetic. Tried:\n"
        + "\n".join(failures)
    )


def _verified(name: str, received: bytes) -> bytes:
    """Decompress the bytes of a file; raise InvalidData for a wrong checksum."""
    content = gunzip(io.BytesIO(received), MAX_FILE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        if _is_idx(content):
            raise OtherDigits(f"not MNIST's digits, but others; save them as {', '.join(ARRAYS)}")
        raise InvalidData(
            f"{len(content)} bytes, starting with {content[:12]!r}, have the wrong sha256 {digest}"
        )
    return content


def _is_idx(content: bytes) -> bool:
    try:
        parse_idx(content)
    except InvalidData:
        return False
    return True


def gunzip(file: BinaryIO, limit: int) -> bytes:
    """Read a whole file and decompress it if it is gzip.

    Raises InvalidData if it is truncated, damaged or longer than `limit` bytes.
    """
    is_compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    try:
        content = (gzip.GzipFile(fileobj=file) if is_compressed else file).read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidData(f"truncated or damaged gzip file ({error})") from error
    if len(content) > limit:
        raise InvalidData(f"more than {limit} bytes")
    return content


def _download(url: str, limit: float) -> bytes:
    """Download a file within `limit` seconds, with a progress bar."""
    deadline = time.monotonic() + limit
    received = bytearray()
    request = urllib.request.Request(url, headers={"User-Agent": "digits"})
    with (
        urllib.request.urlopen(request, timeout=min(SOCKET_TIMEOUT, limit)) as response,
        tqdm(desc=url, total=response.length, unit="B", unit_scale=True) as bar,
    ):
        while chunk := response.read1(CHUNK_BYTES):
            received += chunk
            bar.update(len(chunk))
            if time.monotonic() > deadline:
                raise InvalidData(f"timeout: not received within {limit:g} s")
            if len(received) > MAX_FILE_BYTES:
                raise InvalidData(f"more than {MAX_FILE_BYTES} bytes")
    return bytes(received)


def _write_cache(path: Path, content: bytes) -> None:
    """Write a file to the cache; ignore a cache that cannot be written."""
    with contextlib.suppress(OSError), replacing(path) as partial_path:
        partial_path.write_bytes(content)
