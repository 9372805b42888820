"""The article's mnist.pkl.gz, read by an unpickler that can only build arrays."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.dataset import DataSet, InvalidData, to_digits
from training.data.mnist import PICKLED, gunzip

MAX_PICKLE_BYTES = 512 * 2**20  # the article's file has 220 million
# the module of _reconstruct before numpy 2, and since
ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMBER_TYPES = ("u1", "i4", "i8", "f4", "f8")


def load_pickle(path: Path) -> DataSet:
    """Read ((images, labels) to train, the same to validate, the same to test).

    Images are (n, 784): grey levels, or these divided by 256 or 255. The validation rows
    are appended to the training rows. Raises InvalidData with the path.
    """
    try:
        with path.open("rb") as file:
            content = gunzip(file, MAX_PICKLE_BYTES)
        parts = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        train, validation, test = (
            to_digits(images.array, labels.array) for images, labels in parts
        )
    except InvalidData as error:
        raise InvalidData(f"{path}: {error}") from error
    except OSError as error:
        raise InvalidData(f"{path}: {error.strerror or error}") from error
    # a pickle is a program: any error is possible in a damaged one
    except Exception as error:
        raise InvalidData(
            f"{path}: not a pickle of three (images, labels) pairs ({error!r})"
        ) from error
    return DataSet(PICKLED, train + validation, test)


class _Type:
    """Replacement for numpy.dtype that allows plain numbers and no objects."""

    def __init__(self, code: bytes | str, *_flags: object) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code
        if self.code not in NUMBER_TYPES:
            raise InvalidData(f"an array has dtype {self.code!r}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", b">"):
            self.code = f">{self.code}"


class _Array:
    """Replacement for numpy.ndarray, whose own unpickling trusts the given shape."""

    def __init__(self, *_: object) -> None:
        self.array: npt.NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, number, is_fortran, raw = state
        flat = np.frombuffer(raw, np.dtype(number.code))
        self.array = flat.reshape(shape, order="F" if is_fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Replace _codecs.encode, which old pickle protocols use for bytes."""
    return text.encode(encoding)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that resolves arrays, dtypes and bytes, and refuses all other names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for a global name in the pickle."""
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Type if name == "dtype" else _Array
        if module in ARRAY_MODULES and name == "_reconstruct":
            return _Array
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise InvalidData(f"the pickle calls {module}.{name}, which is not allowed")
