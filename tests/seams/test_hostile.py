"""Hostile files and requests: each is answered, and none harms a worker."""

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile import CORPUS, damaged
from benchmarks.hostile_requests import requests
from tests.conftest import PATIENCE, Service, answers, running_service, wait_until

TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
MAX_PEAK = 300 * 2**20  # bytes of memory that a worker may reach


@pytest.fixture(scope="module")
def running():
    with running_service() as service:
        wait_until(lambda: len(service.workers()) == 2)
        yield service


@pytest.fixture
def service(running):
    """Return the service; its workers must survive the test and stay small."""
    before = running.workers()
    yield running
    assert running.workers() == before, "a worker died"
    wait_until(lambda: answers(f"{running.url}/readyz"))
    for pid in before:
        status = Path(f"/proc/{pid}/status").read_text()
        assert int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 < MAX_PEAK


def in_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def form(name: str, content: bytes) -> tuple[str, bytes]:
    safe = re.sub(r"[^ -!#-~]", "?", name)
    head = f'--b\r\nContent-Disposition: form-data; name="image"; filename="{safe}"'
    body = head.encode() + b"\r\n\r\n" + content + b"\r\n--b--\r\n"
    return "multipart/form-data; boundary=b", body


def statuses(service: Service, files: Iterator[tuple[str, bytes]]) -> dict[str, int]:
    """Post each file as a body, in a form, and with an explanation asked for."""
    address = service.url.removeprefix("http://")
    found = {}
    for name, content in files:
        kind = TYPES.get(Path(name).suffix, "image/x")
        for how, path, (sent_as, body) in (
            ("body", "/predict", (kind, content)),
            ("form", "/predict", form(name, content)),
            ("explained", "/predict?explain=1&timing=1", form(name, content)),
        ):
            client = http.client.HTTPConnection(address, timeout=PATIENCE)
            client.request("POST", path, body, {"Content-Type": sent_as})
            reply = client.getresponse()
            reply.read()
            client.close()
            found[f"{name}, {how}"] = reply.status
    return found


def failures(found: dict[str, int]) -> dict[str, int]:
    return {name: status for name, status in found.items() if status >= 500}


def test_no_file_of_the_corpus_or_of_your_own_does_harm(service, request):
    own = request.config.getoption("--hostile-files")
    if own:
        assert not failures(statuses(service, in_folder(Path(own))))

    found = statuses(service, in_folder(CORPUS))

    assert len(found) >= 300
    assert not failures(found)
    refused = [status for status in found.values() if status in (413, 415, 422)]
    assert len(refused) > 0.85 * len(found)


def test_no_damaged_picture_does_harm(service):
    found = statuses(service, damaged())

    assert len(found) >= 300
    assert not failures(found)
    assert set(found.values()) == {200, 415, 422}


def test_no_hostile_request_does_harm(service):
    host, _, port = service.url.removeprefix("http://").partition(":")
    found = {}
    for name, message in requests():
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
            client.sendall(message)
            reply = client.makefile("rb").readline()
        assert reply.startswith(b"HTTP/1.1 "), (name, reply)
        found[name] = int(reply.split()[1])

    assert len(found) >= 100
    assert not failures(found)
