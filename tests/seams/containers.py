"""Containers of the tests: Docker, images, clients, and the steps of docs/operations.md."""

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT, encode
from tests.seams.documents import OPERATIONS

PICTURE = ROOT / "docs" / "digit.png"
BASE = os.environ.get("BASE", "python:3.13-slim")
N_CLIENTS = 8


def docker(*arguments: str, **settings: str) -> str:
    return output(["docker", *arguments], **settings)


def output(command: list[str], **settings: str) -> str:
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | settings
    )
    assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def image_of(folder: Path, tag: str, dockerfile: str) -> str:
    """Build an image and return its tag."""
    (folder / "Dockerfile").write_text(f"FROM {BASE}\n{dockerfile}")
    docker("build", "--tag", tag, str(folder))
    return tag


def pulled(name: str) -> bool:
    pull = ["docker", "pull", "--quiet", name]
    return subprocess.run(pull, capture_output=True, check=False).returncode == 0


def prometheus_image(folder: Path, named: str) -> str:
    """Return the image that is named, or one of the local program if it cannot be pulled."""
    if pulled(named):
        return named
    for program in ("prometheus", "promtool"):
        path = shutil.which(program)
        if not path:
            pytest.skip(f"{named} cannot be pulled, and there is no local {program}")
        shutil.copy(path, folder)
    return image_of(
        folder,
        "digits-test-prometheus",
        "COPY prometheus promtool /bin/\n"
        "RUN install --directory --owner nobody /prometheus\n"
        'USER nobody\nENTRYPOINT ["/bin/prometheus"]\n',
    )


def steps(section: str) -> dict[str, str]:
    """Return the steps of a section of docs/operations.md by their titles, as scripts."""
    (script,) = re.findall(
        rf"^### {section}\n(?:(?!^##).)*?^```sh\n(.*?)^```",
        OPERATIONS.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    found = re.findall(r"^# ([^:,\n]+).*\n((?:(?!# ).*\n)+)", script, re.MULTILINE)
    return dict(found)


def other_weights(folder: Path, scale: float) -> Path:
    """Write weights whose probabilities differ from those of the shipped ones."""
    with safe_open(EMBEDDED_WEIGHTS, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["weight"] = tensors["weight"] * np.float32(scale)
    path = folder / "digits.safetensors"
    save_file(tensors, path, metadata)
    path.chmod(0o644)
    return path


class Clients:
    """Clients that post pictures over keep-alive connections and never retry.

    A request is lost if it gets no reply with status 200. `numbers` has, for each model
    and picture, the different probabilities that were answered.
    """

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url).netloc
        self.answered = 0
        self.lost: list[str] = []
        self.replies: Counter[str] = Counter()  # of each model
        self.numbers: dict[tuple[str, bytes], set[str]] = defaultdict(set)
        # one that fits into a proxy's buffer, and one that does not
        noise = np.random.default_rng(0).integers(0, 40, (300, 300), np.uint8)
        noise[80:220, 140:160] = 255
        self.bodies = [PICTURE.read_bytes(), encode(noise)]
        assert len(self.bodies[1]) > 50_000
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._post) for _ in range(N_CLIENTS)]

    @contextmanager
    def posting(self) -> Iterator["Clients"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in self._threads:
                thread.join()

    def _post(self) -> None:
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=60)) as client:
            for n in itertools.count():
                if self.stopped.is_set():
                    return
                body = self.bodies[n % 10 == 9]  # every tenth picture is large
                try:
                    client.request("POST", "/predict", body, {"Content-Type": "image/png"})
                    reply = client.getresponse()
                    self._count(body, reply.status, reply.read())
                except (OSError, http.client.HTTPException) as error:
                    client.close()
                    with self._lock:
                        self.lost.append(repr(error))

    def _count(self, body: bytes, status: int, text: bytes) -> None:
        with self._lock:
            if status != 200:
                self.lost.append(f"{status} {text[:200]!r}")
                return
            reply = json.loads(text)
            self.answered += 1
            self.replies[reply["model"]] += 1
            self.numbers[reply["model"], body[-64:]].add(str(reply["probabilities"]))
