"""Shared fixtures: digits to test on, a trained classifier, a running service."""

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
from training.data.dataset import DataSet
from training.data.synthetic import draw_digits

ROOT = Path(__file__).parent.parent
MNIST = find_mnist()


def pytest_report_header() -> str:
    if MNIST:
        return "digits: MNIST's 70,000, and those the tests draw themselves"
    return (
        "digits: those the tests draw themselves. The tests of MNIST's figures are "
        "skipped: no MNIST in DIGITS_MNIST or in the cache (make train fetches it)"
    )


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests' matrices apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def mnist() -> DataSet:
    """MNIST itself, for the figures that are about it."""
    if MNIST is None:
        pytest.skip("needs MNIST in DIGITS_MNIST or in the cache")
    return MNIST


@pytest.fixture(scope="session")
def drawn() -> DataSet:
    """Digits that are here without any file."""
    return draw_digits(600, 200)


@pytest.fixture(scope="session")
def digits(drawn: DataSet) -> DataSet:
    """Real digits where there are any, drawn ones elsewhere."""
    return MNIST or drawn


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file that the job wrote, trained on drawn digits."""
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    assert main(["--data", "synthetic", "--epochs", "5", "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def classifier(weights: Path) -> Classifier:
    return load(weights)


@pytest.fixture(params=["through the door", "Flask alone"])
def client(request: pytest.FixtureRequest, classifier: Classifier):
    """A client of the application as it is served, and of what is behind its door."""
    app = create_app(classifier)
    if request.param == "Flask alone":
        app.wsgi_app = app.wsgi_app.application
    return app.test_client()


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """Encode an image as a file of this kind."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Service(NamedTuple):
    """A running service: its address and the master's process."""

    url: str
    process: subprocess.Popen[str]

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [
            int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]


@contextmanager
def running_service(**settings: str) -> Iterator[Service]:
    """Run the service the one way it starts, until it is ready, and then stop it."""
    port = free_port()
    process = start_service(PORT=str(port), **settings)
    service = Service(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(
            lambda: answers(f"{service.url}/readyz") or process.poll() is not None
        )
        assert process.poll() is None, process.communicate()[1]
        yield service
    finally:
        process.terminate()
        process.communicate(timeout=30)


def start_service(
    config: str = "service/gunicorn.conf.py", **settings: str
) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    return subprocess.Popen(
        [
            str(Path(sys.executable).parent / "gunicorn"),
            "-c",
            config,
            "service.app:create_app()",
        ],
        cwd=ROOT,
        env=environment | {"WEB_CONCURRENCY": "2"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def curl(*arguments: str) -> tuple[int, str, str]:
    """Run curl; give the status, the content type and the body."""
    command = ["curl", "-sS", "-w", "\n%{http_code} %{content_type}", *arguments]
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    )
    body, _, last = run.stdout.rpartition("\n")
    status, _, kind = last.partition(" ")
    return int(status), kind, body


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.05)
