"""Fixtures of the training tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode
from training.data.dataset import DataSet, Digits
from training.data.synthetic import draw_digits


@pytest.fixture(scope="session")
def source(drawn: DataSet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of synthetic digits, 30 of them to test on; quicker than drawing."""
    folder = tmp_path_factory.mktemp("source")
    first = [np.flatnonzero(drawn.test.labels == label)[:3] for label in range(10)]
    rows = np.concatenate(first)
    few = Digits(drawn.test.images[rows], drawn.test.labels[rows])
    write_arrays(DataSet("small", drawn.train, few), folder)
    return str(folder)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of all synthetic digits, for processes that would each draw them."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    folder.mkdir()
    write_arrays(draw_digits(), folder)
    return str(folder)


def write_arrays(data: DataSet, folder: Path) -> None:
    for part, digits in (("train", data.train), ("test", data.test)):
        np.save(folder / f"{part}-images.npy", digits.images)
        np.save(folder / f"{part}-labels.npy", digits.labels)


def write_pictures(data: DataSet, folder: Path, n: int, classes=range(10), side=28) -> Path:
    """Write n pictures of each class into class folders, dark on light if they are larger."""
    for label in classes:
        (folder / str(label)).mkdir(parents=True)
        for i in np.flatnonzero(data.train.labels == label)[:n]:
            image = data.train.images[i]
            if side > len(image):
                image = Image.fromarray(255 - image).resize((side, side))
            (folder / str(label) / f"{i}.png").write_bytes(encode(image))
    return folder
