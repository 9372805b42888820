"""Data in folders of NumPy arrays."""

import numpy as np
import pytest

from service.classifier import load
from tests.conftest import write_arrays
from training.__main__ import main
from training.data.arrays import load_arrays
from training.data.dataset import InvalidData


@pytest.fixture
def folder(drawn, tmp_path):
    """A folder of the user's own digits, with labels of another integer type."""
    folder = tmp_path / "mine"
    folder.mkdir()
    write_arrays(drawn, folder)
    np.save(folder / "train-labels.npy", drawn.train.labels.astype(np.int64))
    return folder


def test_files_are_mapped_into_memory_and_have_the_same_digits(folder, drawn):
    data = load_arrays(folder)

    assert data.name == "mine"
    assert isinstance(data.train.images, np.memmap)
    assert data.sha256() == drawn.sha256()


def test_job_trains_on_a_folder_of_arrays(folder, tmp_path):
    path = tmp_path / "w"
    flags = ["--recipe", "pixels", "--epochs", "2", "--output", str(path)]

    assert main(["--data", str(folder), *flags]) == 0

    assert load(path).training["data"] == "mine"
    assert load(path).evaluation["data"] == "mine test"
    assert load(path).evaluation["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("train-images", np.zeros((3, 28, 28)), r"float64 of shape \(3, 28, 28\)"),
        ("test-images", np.zeros((3, 784), np.uint8), r"uint8 of shape \(3, 784\)"),
        ("test-images", np.zeros((), np.uint8), r"uint8 of shape \(\)"),
        ("train-labels", np.zeros(3, np.uint8), r"uint8 of shape \(3,\)"),
        ("test-labels", np.zeros(200), r"float64 of shape \(200,\)"),
        ("train-labels", np.full(600, 10), "label 10 is not a digit"),
        ("train-labels", np.full(600, -1), "label -1 is not a digit"),
        ("train-images", np.array([{}]), "not an .npy file"),
    ],
)
def test_array_of_other_values_is_refused_with_its_path(name, array, words, folder):
    np.save(folder / f"{name}.npy", array)

    with pytest.raises(InvalidData, match=f"{folder}/{name}.npy: .*({words})"):
        load_arrays(folder)


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4", b"\x93NUMPY\1\0\5\0{'a':", b"\x93NUMPY\1\0\7\0((((((("]
)
def test_damaged_array_is_refused_with_its_path(content, folder):
    (folder / "test-labels.npy").write_bytes(content)

    with pytest.raises(InvalidData, match=r"test-labels\.npy: not an \.npy file"):
        load_arrays(folder)


def test_folder_with_arrays_of_other_names_is_refused(folder, capsys):
    (folder / "train-images.npy").rename(folder / "train_images.npy")

    assert main(["--data", str(folder), "--output", str(folder / "w")]) == 1
    assert f"{folder}/train-images.npy: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train-images.npy", "test-labels.npy", "new.npy"])
def test_output_over_the_data_is_refused(name, folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    flags = ["--data", str(folder), "--recipe", "pixels", "--epochs", "1"]

    assert main([*flags, "--output", str(folder / name)]) == 1

    assert f"{folder}/{name} is a file of --data" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_missing_or_truncated_file_is_refused_with_its_path(folder):
    images = folder / "test-images.npy"
    images.write_bytes(images.read_bytes()[:5000])
    with pytest.raises(InvalidData, match=r"test-images\.npy: "):
        load_arrays(folder)

    (folder / "train-labels.npy").unlink()
    with pytest.raises(InvalidData, match=r"train-labels\.npy"):
        load_arrays(folder)
