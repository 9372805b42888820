"""Fixtures of the training tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode, write_arrays
from training.data.dataset import DataSet, Digits


@pytest.fixture(scope="session")
def source(drawn: DataSet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of synthetic digits, 30 of them to test on; quicker than drawing."""
    folder = tmp_path_factory.mktemp("source")
    first = [np.flatnonzero(drawn.test.labels == label)[:3] for label in range(10)]
    rows = np.concatenate(first)
    few = Digits(drawn.test.images[rows], drawn.test.labels[rows])
    write_arrays(DataSet("small", drawn.train, few), folder)
    return str(folder)


@pytest.fixture
def few_corrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reports read few corrupted digits, which take most of their time."""
    monkeypatch.setattr("training.results.report.N_CORRUPTED", 5)


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
