"""Data in CSV files and Keras archives."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

from service.classifier import load
from training.__main__ import main
from training.data.dataset import InvalidData
from training.data.tables import MAX_LINE, load_csv, load_npz

QUICK = ["--recipe", "pixels", "--epochs", "2"]
HEAD = ",".join(["label", *(f"pixel{i}" for i in range(784))])


def lines(digits, n=None) -> list[str]:
    rows = zip(digits.labels[:n].tolist(), digits.images[:n].reshape(-1, 784), strict=False)
    return [",".join(map(str, [label, *image.tolist()])) for label, image in rows]


def arrays(drawn) -> dict[str, np.ndarray]:
    train, test = drawn.train, drawn.test
    names = ("x_train", "y_train", "x_test", "y_test")
    return dict(zip(names, (train.images, train.labels, test.images, test.labels), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        lambda rows: "\n".join([HEAD, *rows]),
        lambda rows: "\n".join(rows),
        lambda rows: "\ufeff" + "\r\n".join([HEAD, *rows, "", ""]),
        lambda rows: "\n".join('"' + row.replace(",", '","') + '"' for row in rows),
    ],
    ids=["Kaggle", "without names", "Windows", "quoted"],
)
def test_csv_has_the_digits_it_was_made_of(text, drawn, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(text(lines(drawn.train, 100)), newline="")

    data = load_csv(path, seed=0)

    both = data.train + data.test
    rows = drawn.train.rows(0, 100)
    pairs = [
        sorted(zip(each.images.reshape(-1, 784).tolist(), each.labels.tolist(), strict=True))
        for each in (both, rows)
    ]
    assert pairs[0] == pairs[1]
    for label in range(10):
        n = (rows.labels == label).sum()
        assert (data.test.labels == label).sum() == max(1, n // 5)


def test_job_trains_on_kaggles_file_plain_gzipped_and_by_its_folder(drawn, tmp_path, capsys):
    text = "\n".join([HEAD, *lines(drawn.train)])
    plain = tmp_path / "kaggle" / "train.csv"
    plain.parent.mkdir()
    plain.write_text(text)
    packed = tmp_path / "digits.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))

    for source in (plain, plain.parent, packed):
        assert main(["--data", str(source), *QUICK, "--output", str(tmp_path / "w")]) == 0
        assert load(tmp_path / "w").evaluation["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [*rows[:7], "7" + ",x" * 784], "line 8: .*'x'"),
        (lambda rows: [*rows[:7], "7" + ",256" * 784], "line 8: .*'256'.*from 0 to 255"),
        (lambda rows: [*rows[:7], "7" + ",-1" * 784], "line 8: .*'-1'"),
        (lambda rows: [*rows[:7], "7" + ",0.5" * 784], "line 8: .*'0.5'"),
        (lambda rows: [*rows[:7], "10" + ",0" * 784], "line 8: label 10"),
        (lambda rows: [*rows[:7], "7,1,2"], "line 8: 3 columns"),
        (lambda rows: [*rows[:7], "7" + ",0" * 785], "line 8: 786 columns"),
        (lambda rows: ["7" + "0" * MAX_LINE], f"line 1: longer than {MAX_LINE:,}"),
        (lambda rows: [HEAD.removeprefix("label,"), *rows], "line 1: 784 columns.*'pixel0'"),
        (lambda rows: ["name,age", "x,7"], "line 1: 2 columns, the first named 'name'"),
        (lambda rows: [HEAD], "no line with a label"),
        (lambda rows: [], "no line with a label"),
        (lambda rows: ["1,\udcff"], "codec"),
    ],
)
def test_other_lines_are_refused_with_the_path_and_the_line(change, words, drawn, tmp_path):
    path = tmp_path / "train.csv"
    text = "\n".join(change(lines(drawn.train, 9)))
    path.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(InvalidData, match=f"{path}.*{words}"):
        load_csv(path, seed=0)


def test_truncated_gzip_of_lines_is_refused_with_its_path(drawn, tmp_path):
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines(drawn.train, 50)).encode())[:2000])

    with pytest.raises(InvalidData, match=str(path)):
        load_csv(path, seed=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images.reshape(-1, 784),
        lambda images: images[..., np.newaxis],
        lambda images: images.astype(np.float64),
        lambda images: (images / 255).astype(np.float32),
        lambda images: images / np.float32(256),
        lambda images: images.astype(np.int64),
    ],
)
def test_keras_archive_has_the_digits_it_was_made_of(change, drawn, tmp_path):
    path = tmp_path / "mnist.npz"
    parts = arrays(drawn)
    parts |= {name: change(parts[name]) for name in ("x_train", "x_test")}
    np.savez_compressed(path, **parts)

    data = load_npz(path)

    assert data.sha256() == drawn.sha256()


def test_bilevel_images_of_0_and_1_are_black_and_white(drawn, tmp_path):
    parts = arrays(drawn)
    parts |= {name: (parts[name] > 100).astype(np.uint8) for name in ("x_train", "x_test")}
    np.savez(tmp_path / "mnist.npz", **parts)

    data = load_npz(tmp_path / "mnist.npz")

    np.testing.assert_array_equal(data.test.images, 255 * parts["x_test"])


def test_keras_archive_of_mnist_is_mnist(mnist, tmp_path, capsys):
    path = tmp_path / "mnist.npz"
    np.savez(path, **arrays(mnist))

    assert main(["--data", str(path), "--recipe", "pixels", "--epochs", "1"]) == 0

    assert "50,000 training rows, 10,000 validation rows" in capsys.readouterr().out


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def vast_archive() -> bytes:
    """Return a small archive that claims an image array of a terabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        header = io.BytesIO()
        shape = {"descr": "|u1", "fortran_order": False, "shape": (10**10, 28, 28)}
        np.lib.format.write_array_header_1_0(header, shape)
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", header.getvalue())
    return file.getvalue()


def archive_of(**parts) -> bytes:
    file = io.BytesIO()
    np.savez(file, **parts)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda parts: archive_of(**parts)[:9000], "not an .npz file"),
        (lambda parts: vast_archive(), "not an .npz file"),
        (lambda parts: archive_of(a=np.zeros(3)), "it has a; expected x_train"),
        (lambda parts: archive_of(), "it has nothing"),
        (lambda parts: archive_of(**parts | {"y_test": np.array([Runs()] * 200)}), "pickle"),
        (lambda parts: archive_of(**parts | {"y_train": np.full(600, 10)}), "not digits"),
        (lambda parts: archive_of(**parts | {"y_train": np.zeros(5)}), r"labels \(5,\)"),
        (lambda parts: archive_of(**parts | {"y_train": np.zeros(())}), r"labels \(\)"),
        (lambda parts: archive_of(**parts | {"x_test": np.zeros((200, 8, 8))}), r"\(200, 8, 8\)"),
        (lambda parts: archive_of(**parts | {"x_test": np.full((200, 784), "a")}), "images"),
        (lambda parts: archive_of(**parts | {"x_test": np.full((200, 784), -1)}), "from -1 to -1"),
        (lambda parts: archive_of(**parts | {"x_test": np.full((200, 784), 256)}), "256"),
        (lambda parts: archive_of(**parts | {"x_test": np.full((200, 784), np.nan)}), "nan"),
    ],
)
def test_other_archives_are_refused_with_their_path(content, words, drawn, tmp_path):
    path = tmp_path / "mnist.npz"
    path.write_bytes(content(arrays(drawn)))

    with pytest.raises(InvalidData, match=f"{path}: .*{words}"):
        load_npz(path)


def test_pickle_of_grey_levels_has_the_digits_it_was_made_of(drawn, tmp_path):
    """The article's pairs, of bytes: they were read as negatives."""
    from training.data.pickled import load_pickle

    pair = drawn.train.images.reshape(-1, 784), drawn.train.labels
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps((pair, pair, pair)))

    np.testing.assert_array_equal(load_pickle(path).test.images, drawn.train.images)


def test_zipped_folder_of_pictures_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        archive.writestr("digits/7/scan.png", b"")

    with pytest.raises(InvalidData, match=r"digits\.zip: an archive without arrays; unpack it"):
        load_npz(tmp_path / "digits.zip")
