"""The download of MNIST, from mirrors that fail in every way."""

import gzip
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import free_port
from training.data import mnist
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import load_mnist, parse_idx

NAMES = list(mnist.SHA256)


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


@pytest.fixture
def files(drawn: DataSet, monkeypatch) -> dict[str, bytes]:
    """Small files with MNIST's names, whose checksums are the expected ones."""
    arrays = [drawn.train.images, drawn.train.labels, drawn.test.images, drawn.test.labels]
    contents = dict(zip(NAMES, map(idx, arrays), strict=True))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(mnist, "SHA256", sums)
    return contents


@pytest.fixture
def mirror(files) -> Iterator["Mirror"]:
    with Mirror(files) as running:
        yield running


class Mirror:
    """A web server with MNIST's files, and with everything that can go wrong."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        good = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                _, kind, name = self.path.split("/")
                content = good[name]
                if kind in ("404", "403", "503"):
                    self.send_error(int(kind))
                    return
                if kind == "html":
                    content = b"<html>moved</html>"
                if kind == "wrong":
                    content = gzip.compress(b"\0\0\x08\x01\0\0\0\1\7")
                if kind == "damaged":
                    content = content[: len(content) // 2]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if kind == "cut":
                    content = content[: len(content) // 2]
                if kind == "slow":
                    for byte in content:
                        self.wfile.write(bytes([byte]))
                        time.sleep(0.05)
                self.wfile.write(content)

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the client disconnects on a timeout
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self) -> "Mirror":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{kind}/"


def assert_same(read: DataSet, expected: DataSet) -> None:
    for part in ("train", "test"):
        for array in ("images", "labels"):
            np.testing.assert_array_equal(
                getattr(getattr(read, part), array), getattr(getattr(expected, part), array)
            )


@pytest.mark.parametrize("compressed", [False, True])
def test_plain_and_gzipped_files_of_the_folder_are_read(compressed, files, drawn, tmp_path):
    for name, content in files.items():
        if compressed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / name).write_bytes(content)

    read = load_mnist(tmp_path, tmp_path / "cache", mirrors=())

    assert_same(read, drawn)
    assert not (tmp_path / "cache").exists()


def test_download_is_verified_cached_and_not_repeated(mirror, drawn, tmp_path):
    first = load_mnist(None, tmp_path / "cache", [mirror.url("good")])
    asked = len(mirror.asked)
    second = load_mnist(None, tmp_path / "cache", [mirror.url("good")])

    assert_same(first, drawn)
    assert_same(second, drawn)
    assert asked == len(mirror.asked) == 4
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(
        f"{name}.gz" for name in NAMES
    )


@pytest.mark.parametrize("kind", ["404", "403", "503", "html", "wrong", "damaged", "cut"])
def test_bad_mirror_falls_through_to_the_next(kind, mirror, drawn, tmp_path):
    read = load_mnist(None, tmp_path, [mirror.url(kind), mirror.url("good")])

    assert_same(read, drawn)
    assert len(mirror.asked) == 8


def test_unreachable_mirror_falls_through_to_the_next(mirror, drawn, tmp_path):
    gone = f"http://127.0.0.1:{free_port()}/"

    assert_same(load_mnist(None, tmp_path, [gone, mirror.url("good")]), drawn)


def test_slow_mirror_times_out_and_falls_through_to_the_next(mirror, drawn, tmp_path):
    read = load_mnist(None, tmp_path, [mirror.url("slow"), mirror.url("good")], file_limit=0.3)

    assert_same(read, drawn)


def test_damaged_file_in_the_folder_falls_through_to_the_mirror(mirror, files, drawn, tmp_path):
    (tmp_path / NAMES[0]).write_bytes(files[NAMES[0]][:-1])

    read = load_mnist(tmp_path, tmp_path / "cache", [mirror.url("good")])

    assert_same(read, drawn)


def test_message_names_every_source_that_failed_and_what_to_do(mirror, tmp_path):
    (tmp_path / NAMES[0]).write_bytes(b"nothing")
    mirrors = [mirror.url(kind) for kind in ("404", "html", "cut")]

    with pytest.raises(InvalidData) as caught:
        load_mnist(tmp_path, tmp_path / "cache", mirrors)

    message = str(caught.value)
    for name, digest in mnist.SHA256.items():
        assert f"{name}  sha256 {digest}" in message
    assert "DIGITS_MNIST" in message
    assert f"{tmp_path / NAMES[0]}: 7 bytes" in message
    assert "404" in message
    assert "<html>" in message
    assert all(url in message for url in mirrors)
    assert not (tmp_path / "cache").exists()


def test_there_are_at_least_three_mirrors_and_all_use_https():
    assert len(mnist.MIRRORS) >= 3
    assert all(url.startswith("https://") and url.endswith("/") for url in mnist.MIRRORS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x03" + b"\0" * 4,
        b"\0\0\x0d\x01" + b"\0\0\0\0",
        idx(np.zeros((2, 28, 28), np.uint8))[:-1],
        idx(np.zeros((2, 27, 28), np.uint8)),
        idx(np.zeros(3, np.uint8)) + b"\0",
    ],
)
def test_files_other_than_idx_files_of_digits_are_refused(content):
    with pytest.raises(InvalidData, match="IDX"):
        parse_idx(content)


def test_mnist_has_its_known_shape_and_first_labels(mnist):
    assert mnist.train.images.shape == (60_000, 28, 28)
    assert mnist.test.images.shape == (10_000, 28, 28)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_cache_that_cannot_be_written_is_ignored(mirror, drawn):
    read = load_mnist(None, Path("/proc/nowhere"), [mirror.url("good")])

    assert_same(read, drawn)
