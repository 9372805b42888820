"""Data sets by the name that --data takes."""

from pathlib import Path

from training.data.arrays import has_arrays, load_arrays
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import SHA256, load_mnist
from training.data.pickled import load_pickle
from training.data.synthetic import draw_digits

# plain and compressed
MNIST_FILES = tuple(f"{name}{suffix}" for name in SHA256 for suffix in ("", ".gz"))


class InvalidOutput(ValueError):
    """An output path that would overwrite an input."""


def load_data(source: str, cache: Path) -> DataSet:
    """Load the data set that --data names; without a name, MNIST."""
    if source == "synthetic":
        return draw_digits()
    path = Path(source) if source else None
    if path and path.is_file():
        return load_pickle(path)
    if path and not path.is_dir():
        raise InvalidData(f"--data: {source} is not a folder, a file or 'synthetic'")
    if path and has_arrays(path):
        return load_arrays(path)
    if path and any(path.iterdir()) and not any((path / name).exists() for name in MNIST_FILES):
        raise InvalidData(f"--data: {source} has neither MNIST's four files nor .npy files")
    return load_mnist(path, cache / "mnist")


def protect_data(output: Path, source: str) -> None:
    """Raise InvalidOutput if a path is a file of the data set that --data names."""
    data = Path(source).resolve()
    is_input = output.suffix == ".npy" or output.name in MNIST_FILES
    is_inside = output.parent == data and is_input
    if source and (output == data or is_inside):
        raise InvalidOutput(f"--output: {output} is a file of --data")
