import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.arrays import InvalidArray, images_of_bytes, images_of_npy, npy_of


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.fixture(scope="module")
def images(drawn) -> np.ndarray:
    return drawn.test.images[:3]


def test_rows_of_bytes_and_npy_of_every_layout_are_the_same_images(images):
    for body, read in (
        (images.tobytes(), images_of_bytes),
        (npy(images), images_of_npy),
        (npy(images, (2, 0)), images_of_npy),
        (npy(np.asfortranarray(images)), images_of_npy),
        (npy(images[:0]), images_of_npy),
    ):
        found = read(body)
        np.testing.assert_array_equal(found, images[: len(found)])
        assert found.shape[1:] == (28, 28)
        assert found.dtype == np.uint8


def test_written_array_is_read_by_numpy():
    array = np.random.default_rng(0).random((5, 10)).astype(np.float32)

    np.testing.assert_array_equal(np.load(io.BytesIO(npy_of(array))), array)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"x" * 785, "785 bytes"),
        (b"\x89PNG" + b"x" * 99, r"image/\*"),
        (b"\x93NUMPY" + b"x" * 99, "application/x-npy"),
    ],
)
def test_bytes_that_are_no_rows_of_images_are_refused(body, words):
    with pytest.raises(InvalidArray, match=words):
        images_of_bytes(body)


FIELDS = "{'descr': '%s', 'fortran_order': %s, 'shape': %s}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not an .npy"),
        (b"\x93NUMPY", "not an .npy"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "version 1 or 2"),
        (with_header("(" * 900), "not an .npy"),
        (with_header("{'descr': " + "[" * 5_000), "not an .npy"),
        (with_header("__import__('os').abort()"), "not an .npy"),
        (with_header(FIELDS % ("|O", False, "(1, 28, 28)"), b"cos\n."), "object"),
        (with_header(FIELDS % ("<f4", False, "(1, 28, 28)")), "float32"),
        (with_header(FIELDS % ("|u1", False, "(1, 784)")), r"\(1, 784\)"),
        (with_header(FIELDS % ("|u1", False, "(28, 28)")), r"\(28, 28\)"),
        (with_header(FIELDS % ("|u1", False, "(10**9, 28, 28)")), "not an .npy"),
        (with_header(FIELDS % ("|u1", False, "(999999999, 28, 28)")), "asks for"),
        (with_header(FIELDS % ("|u1", False, "(-1, 28, 28)"), bytes(784)), r"\(-1"),
        (with_header(FIELDS % ("|u1", False, "(1, 28, 28)"), bytes(785)), "785 bytes"),
        (with_header(FIELDS % ("|u1", False, "(True, 28, 28)"), bytes(784)), "True"),
    ],
)
def test_npy_that_is_not_uint8_images_is_refused_without_being_run(body, words):
    with pytest.raises(InvalidArray, match=words):
        images_of_npy(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\x01\x00"]))
def test_any_bytes_are_images_or_refused(body, magic):
    for read in (images_of_bytes, images_of_npy):
        with contextlib.suppress(InvalidArray):
            assert read(magic + body).shape[1:] == (28, 28)
