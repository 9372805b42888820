"""Shared fixtures: data sets, a trained classifier and a running service."""

import fcntl
import io
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from benchmarks.uploads import find_mnist
from service.app import create_app
from service.classifier import Classifier, load
from training.__main__ import main
from training.data.dataset import DataSet, Digits
from training.data.synthetic import draw_digits

ROOT = Path(__file__).parent.parent
MNIST = find_mnist()
# The most that a test waits for anything, in seconds. It is long because a busy machine
# is slow, and no test is slower for it: a wait ends as soon as its condition holds.
PATIENCE = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hostile-files",
        metavar="FOLDER",
        help="post the files of this folder too, as those of benchmarks/corpus",
    )


def pytest_report_header() -> str:
    if MNIST:
        return "data: MNIST (70,000 digits) and synthetic digits"
    return (
        "data: synthetic digits only; the tests that need MNIST are skipped: it is "
        "neither in DIGITS_MNIST nor in the cache (`make train` downloads it)"
    )


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the design matrices of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def mnist() -> DataSet:
    """Return MNIST, or skip the test."""
    if MNIST is None:
        pytest.skip("needs MNIST in DIGITS_MNIST or in the cache")
    return MNIST


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder of this run alone that the workers of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Run the block while no other worker of pytest-xdist makes the same file."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def drawn(shared: Path) -> DataSet:
    """Return a small set of synthetic digits."""
    folder = drawn_once(shared / "drawn", 600, 200)
    parts = (
        Digits(*(np.load(folder / f"{part}-{name}.npy") for name in ("images", "labels")))
        for part in ("train", "test")
    )
    return DataSet("synthetic", *parts)


@pytest.fixture(scope="session")
def synthetic(shared: Path) -> str:
    """Return a folder of synthetic digits, for jobs that would each draw them."""
    return str(drawn_once(shared / "synthetic", 1_500, 300))


def drawn_once(folder: Path, n_train: int, n_test: int) -> Path:
    """Return a folder of synthetic digits; whichever worker needs it first draws them."""
    with locked(folder):
        if not folder.exists():
            write_arrays(draw_digits(n_train, n_test), folder)
    return folder


def write_arrays(data: DataSet, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for part, digits in (("train", data.train), ("test", data.test)):
        np.save(folder / f"{part}-images.npy", digits.images)
        np.save(folder / f"{part}-labels.npy", digits.labels)


@pytest.fixture(scope="session")
def digits(drawn: DataSet) -> DataSet:
    """Return MNIST, or synthetic digits where it is missing."""
    return MNIST or drawn


@pytest.fixture(scope="session")
def weights(shared: Path, synthetic: str) -> Path:
    """Return a weights file without detector, trained on synthetic digits by the job."""
    path = shared / "weights" / "digits.safetensors"
    with locked(path.parent):
        if not path.exists():
            flags = ["--data", synthetic, "--augment", "0", "--epochs", "5", "--batch-size", "25"]
            assert not main([*flags, "--output", str(path)])
    return path


@pytest.fixture(scope="session")
def classifier(weights: Path) -> Classifier:
    return load(weights)


@pytest.fixture(params=["fast path", "Flask alone"])
def client(request: pytest.FixtureRequest, classifier: Classifier):
    """Return a client of the application with its fast path, and one without."""
    app = create_app(classifier)
    if request.param == "Flask alone":
        app.wsgi_app = app.wsgi_app.application
    return app.test_client()


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """Return an image as the bytes of a file of this kind."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def free_port() -> int:
    """Return a port on which nothing listens, and that nobody else is given soon.

    A connection that this end closed first leaves the port in TIME_WAIT for a minute.
    Until then the system gives it to no other process that asks for any port, but a
    server that names it, with SO_REUSEADDR as servers do, can listen on it.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            server.accept()[0].close()
            client.recv(1)
    return address[1]


class Service(NamedTuple):
    """A running service: its URL and the process of gunicorn's master."""

    url: str
    process: subprocess.Popen[str]

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running_service(**settings: str) -> Iterator[Service]:
    """Start the service, wait until it is ready, and stop it after the block."""
    port = free_port()
    process = start_service(PORT=str(port), **settings)
    service = Service(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(lambda: answers(f"{service.url}/readyz") or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        yield service
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()  # without effect on a process that has ended


def start_service(
    config: str = "service/gunicorn.conf.py", **settings: str
) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "gunicorn"), "-c", config, "service.app:create_app()"],
        cwd=ROOT,
        env=environment | {"WEB_CONCURRENCY": "2"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def curl(*arguments: str) -> tuple[int, str, str]:
    """Run curl and return the status, the content type and the body."""
    command = ["curl", "-sS", "-w", "\n%{http_code} %{content_type}", *arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    body, _, last = run.stdout.rpartition("\n")
    status, _, kind = last.partition(" ")
    return int(status), kind, body


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not the case after {seconds} s"
        time.sleep(0.05)
