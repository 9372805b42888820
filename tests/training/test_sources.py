"""The data that --data names."""

import gzip
import pickle
import shutil
import struct
import tarfile
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from benchmarks.uploads import MNIST_FOLDER
from tests.conftest import ROOT, encode
from tests.training.conftest import write_pictures
from tests.training.test_mnist import Mirror
from training.data.dataset import InvalidData
from training.data.mnist import SHA256, load_mnist
from training.data.sources import load_data

ACCEPTED = ["folders named 0 to 9", "train-images.npy", "torchvision", "mnist.npz", "train.csv"]


@pytest.fixture
def downloads(monkeypatch) -> Iterator[list[str]]:
    """Return the paths that a mirror, the only one, is asked for; it has no files."""
    with Mirror(dict.fromkeys(SHA256, b"")) as mirror:
        load = partial(load_mnist, mirrors=[mirror.url("404")])
        monkeypatch.setattr("training.data.sources.load_mnist", load)
        yield mirror.asked


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_torchvisions_root_is_read_at_every_level(below, mnist, tmp_path):
    folder = tmp_path / "data" / below
    folder.mkdir(parents=True)
    for name in SHA256:
        for path in MNIST_FOLDER.glob(f"{name}*"):
            shutil.copy(path, folder)

    data = load_data(str(tmp_path / "data"), tmp_path / "cache")

    assert data.sha256() == mnist.sha256()
    assert not data.is_own


def test_kaggles_names_of_mnists_files_are_read(mnist, tmp_path):
    for name in SHA256:
        for path in MNIST_FOLDER.glob(f"{name}*"):
            shutil.copy(path, tmp_path / path.name.replace("-idx", ".idx"))

    assert load_data(str(tmp_path), tmp_path / "cache").sha256() == mnist.sha256()


@pytest.mark.parametrize("name", [".DS_Store", ""])
def test_empty_folder_is_refused_and_nothing_is_downloaded(name, downloads, tmp_path):
    (tmp_path / "digits" / name).mkdir(parents=True)

    with pytest.raises(
        InvalidData, match=r"digits (is empty|has 1 folder \(.DS_Store\)); accepted"
    ):
        load_data(str(tmp_path / "digits"), tmp_path / "cache")

    assert downloads == []


def test_without_a_name_mnist_is_downloaded(downloads, tmp_path):
    with pytest.raises(InvalidData, match="train-images-idx3-ubyte not found"):
        load_data("", tmp_path / "cache")

    assert downloads == ["/404/train-images-idx3-ubyte.gz"]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte"])
def test_other_digits_in_mnists_files_are_refused_and_not_replaced_by_mnist(
    name, downloads, tmp_path
):
    images = b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + b"\1" * 2 * 784
    (tmp_path / name).write_bytes(images)

    with pytest.raises(InvalidData, match=rf"{name}: not MNIST's digits, .*train-images.npy"):
        load_data(str(tmp_path), tmp_path / "cache")

    assert downloads == []


@pytest.mark.parametrize("compression", ["", "gz"])
def test_archive_is_answered_with_unpack_it(compression, drawn, tmp_path):
    folder, path = write_pictures(drawn, tmp_path / "mine", 3), tmp_path / "mine.tar"
    with tarfile.open(path, f"w:{compression}") as archive:
        archive.add(folder)

    with pytest.raises(InvalidData, match="is an archive; unpack it and name its folder"):
        load_data(str(path), tmp_path)


def test_single_file_of_several_is_answered_with_its_folder(drawn, tmp_path):
    np.save(tmp_path / "digits.npy", drawn.train.images)
    (tmp_path / "images.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\0" * 12))

    with pytest.raises(InvalidData, match=r"digits.npy is a single array; name a folder with"):
        load_data(str(tmp_path / "digits.npy"), tmp_path)
    with pytest.raises(InvalidData, match=r"images.gz is a single IDX file; name the folder"):
        load_data(str(tmp_path / "images.gz"), tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"), [("x" * 300, "File name too long"), ("loop", "neither a file nor a folder")]
)
def test_path_that_cannot_be_opened_is_answered_in_one_line(name, reason, tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(InvalidData) as caught:
        load_data(str(tmp_path / name), tmp_path)

    assert str(caught.value).startswith(f"{tmp_path}/{name}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_path_that_does_not_exist_is_answered_with_what_is_accepted(tmp_path):
    with pytest.raises(InvalidData) as caught:
        load_data(str(tmp_path / "absent"), tmp_path)

    message = str(caught.value)
    assert f"{tmp_path}/absent is neither a file nor a folder" in message
    assert "\n" not in message
    assert all(words in message for words in ACCEPTED)


def test_folder_of_other_files_is_answered_with_what_is_in_it(tmp_path):
    for name in ("scans", "photos"):
        (tmp_path / name).mkdir()
    for name in ("a.jpg", "b.jpg", "notes.txt", "README"):
        (tmp_path / name).write_bytes(b"")

    with pytest.raises(InvalidData) as caught:
        load_data(str(tmp_path), tmp_path)

    message = str(caught.value)
    assert "has 2 folders (photos, scans) and 2 .jpg and 1 README and 1 .txt" in message
    assert all(words in message for words in ACCEPTED)


def test_list_of_what_is_in_a_folder_is_short(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02}-folder").mkdir()
        (tmp_path / f"file.{i}").write_bytes(b"")

    with pytest.raises(InvalidData) as caught:
        load_data(str(tmp_path), tmp_path)

    assert "has 30 folders (00-folder, 01-folder" in str(caught.value)
    assert len(str(caught.value).partition("; accepted")[0]) < 300


@pytest.mark.parametrize("meant", ["digits", "archive/digits"])
@pytest.mark.parametrize("is_below", [False, True])
def test_folder_beside_the_class_folders_is_answered_with_theirs(is_below, meant, tmp_path):
    (tmp_path / meant / "7").mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "digit.png", tmp_path / meant / "7")
    given = f"{meant}/7" if is_below else ""

    with pytest.raises(InvalidData, match=f"did you mean {tmp_path / meant}\\?"):
        load_data(str(tmp_path / given), tmp_path / "cache")


def test_folders_of_processes_are_not_what_was_meant(tmp_path):
    (tmp_path / "proc" / "1" / "task" / "1").mkdir(parents=True)
    for path in ("1/status", "1/task/1/status", "1/environ"):
        (tmp_path / "proc" / path).write_text("Name: init" * path.count("status"))

    with pytest.raises(InvalidData, match=r"has 1 folder \(proc\); accepted"):
        load_data(str(tmp_path), tmp_path / "cache")


def test_search_for_what_was_meant_is_bounded(tmp_path, monkeypatch):
    meant = tmp_path / "z" / "digits" / "7"
    meant.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "digit.png", meant)
    for i in range(50):
        (tmp_path / "a" / f"{i}-folder").mkdir(parents=True)
    with pytest.raises(InvalidData, match="did you mean"):
        load_data(str(tmp_path), tmp_path / "cache")

    monkeypatch.setattr("training.data.sources.MAX_SEARCHED", 50)

    with pytest.raises(InvalidData, match=r"has 2 folders \(a, z\); accepted"):
        load_data(str(tmp_path), tmp_path / "cache")


def test_picture_is_answered_with_where_to_put_it(drawn, tmp_path):
    (tmp_path / "7.png").write_bytes(encode(drawn.train.images[0]))

    with pytest.raises(InvalidData, match="is a picture; put it into a folder named by its digit"):
        load_data(str(tmp_path / "7.png"), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 99,
        b"some text",
        pickle.dumps(1),
        gzip.compress(b"a\nb", mtime=0),
        b"\x1f\x8bxx",
        b"PKxx",
    ],
)
def test_other_file_is_refused_with_its_path(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(InvalidData, match=str(path)):
        load_data(str(path), tmp_path)


@pytest.mark.slow  # draws 4,000 digits
def test_digits_are_ones_own_unless_they_are_mnists_or_drawn_here(source, tmp_path):
    assert load_data(source, tmp_path).is_own
    assert not load_data("synthetic", tmp_path).is_own


def test_docs_are_no_data_set(tmp_path):
    with pytest.raises(InvalidData, match=r"docs has .*\.md"):
        load_data(str(ROOT / "docs"), tmp_path)
