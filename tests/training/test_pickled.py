"""The pickle of the article, read without running its code."""

import gzip
import os
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from training.data.dataset import InvalidData
from training.data.pickled import load_pickle


def parts(drawn) -> tuple:
    """The article's three pairs: rows of float32 in [0, 1), labels int64."""
    images = (drawn.train.images.reshape(-1, 784) / np.float32(256)).astype(np.float32)
    labels = drawn.train.labels.astype(np.int64)
    test = (drawn.test.images.reshape(-1, 784) / np.float32(256)).astype(np.float32)
    return (
        (images[:500], labels[:500]),
        (images[500:], labels[500:]),
        (test, drawn.test.labels.astype(np.int64)),
    )


def written(content: bytes, path: Path) -> Path:
    path.write_bytes(gzip.compress(content, 1))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_article_pickle_has_the_digits_it_was_made_of(protocol, drawn, tmp_path):
    content = pickle.dumps(parts(drawn), protocol)

    read = load_pickle(written(content, tmp_path / "mnist.pkl.gz"))

    np.testing.assert_array_equal(read.train.images, drawn.train.images)
    np.testing.assert_array_equal(read.train.labels, drawn.train.labels)
    np.testing.assert_array_equal(read.test.images, drawn.test.images)
    assert read.test.labels.dtype == np.uint8


def as_python_2(content: bytes) -> bytes:
    """Rewrite a pickle of protocol 3 as Python 2 would have written it.

    There, bytes and names are both str: BINSTRING with the same lengths.
    """
    strings = {"SHORT_BINBYTES": b"U", "BINBYTES": b"T", "BINUNICODE": b"T"}
    old = bytearray(content.replace(b"numpy._core", b"numpy.core"))
    for opcode, _, position in pickletools.genops(bytes(old)):
        if opcode.name in strings:
            old[position : position + 1] = strings[opcode.name]
        if opcode.name == "PROTO":
            old[position + 1] = 2
    return bytes(old)


def test_a_pickle_of_python_2_is_read(drawn, tmp_path):
    content = as_python_2(pickle.dumps(parts(drawn), 3))

    read = load_pickle(written(content, tmp_path / "mnist.pkl.gz"))

    np.testing.assert_array_equal(read.test.images, drawn.test.images)
    np.testing.assert_array_equal(read.train.labels, drawn.train.labels)


class Runs:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("hostile", "name"),
    [
        (lambda mark: Runs(os.system, f"touch {mark}"), "posix.system"),
        (lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (lambda mark: Runs(np.load, str(mark), None, True), "numpy.load"),
        (lambda mark: Runs(np.memmap, str(mark), "u1", "w+", 0, 9), "numpy.memmap"),
        (lambda mark: np.array([Runs(os.system, f"touch {mark}")], object), "'O8'"),
    ],
)
def test_hostile_pickle_runs_nothing_and_is_refused_with_the_name(hostile, name, tmp_path):
    mark = tmp_path / "ran"
    content = pickle.dumps(hostile(mark))

    with pytest.raises(InvalidData, match=name):
        load_pickle(written(content, tmp_path / "mnist.pkl.gz"))

    assert not mark.exists()


def test_array_larger_than_the_file_is_refused(tmp_path):
    class Vast:
        def __reduce__(self):
            array = np.zeros(1, np.float32)
            function, arguments, state = array.__reduce__()
            return function, arguments, (state[0], (10**12,), *state[2:])

    with pytest.raises(InvalidData, match="reshape"):
        load_pickle(written(pickle.dumps([[Vast(), Vast()]] * 3), tmp_path / "x.gz"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps(1),
        pickle.dumps(((1, 2),) * 3),
        pickle.dumps(((np.zeros((2, 784)), np.zeros(3)),) * 3),
        pickle.dumps(((np.zeros((2, 784)), np.full(2, 11)),) * 3),
        pickle.dumps(((np.full((2, 784), -1.0), np.zeros(2)),) * 3),
        pickle.dumps(((np.full((2, 784), np.nan), np.zeros(2)),) * 3),
        pickle.dumps(((np.zeros((2, 783)), np.zeros(2)),) * 3),
    ],
)
def test_other_pickles_are_refused_with_their_path(content, tmp_path):
    path = written(content, tmp_path / "mnist.pkl.gz")

    with pytest.raises(InvalidData, match=str(path)):
        load_pickle(path)


def test_truncated_pickle_is_refused(drawn, tmp_path):
    path = written(pickle.dumps(parts(drawn)), tmp_path / "mnist.pkl.gz")
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(InvalidData, match="truncated or damaged"):
        load_pickle(path)
