"""Real clients of the Open Inference Protocol, and the snippets of docs/clients.md."""

import itertools
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.classifier import load
from service.images import read_image
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import PATIENCE, ROOT, Service, running_service
from tests.seams.documents import HERE, Block, blocks, differences

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
PICTURE = ROOT / "docs" / "digit.png"
PAGE = ROOT / "docs" / "clients.md"
# recorded from kserve 0.21.0's InferenceRESTClient
KSERVE = sorted((Path(__file__).parent / "kserve").glob("*.http"))
needs_clients = pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-clients: make clients")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service(DIGITS_ALLOWED_ORIGINS="https://app.example.org") as service:
        yield service


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images and the outputs for them, as an .npz file."""
    images = np.stack([read_image(PICTURE.read_bytes())] * 2)
    probabilities, is_digit = load(EMBEDDED_WEIGHTS).score(images)
    path = tmp_path_factory.mktemp("expected") / "expected.npz"
    outputs = {"probabilities": probabilities, "is_digit": is_digit}
    np.savez(path, images=images, digit=probabilities.argmax(axis=1), **outputs)
    return path


@needs_clients
@pytest.mark.parametrize("script", ["triton.py", "open_inference_client.py"])
def test_client_gets_what_the_protocol_says(service, expected, script):
    address = service.url.removeprefix("http://")
    command = [PYTHON, Path(__file__).parent / script, address, expected, PICTURE]

    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert run.stdout == "as expected\n", run.stderr


@pytest.mark.parametrize("path", KSERVE, ids=lambda path: path.stem)
def test_request_that_kserve_sent_is_answered(service, expected, path):
    host, port = service.url.removeprefix("http://").split(":")
    sent = path.read_bytes().replace(b"Connection: keep-alive", b"Connection: close")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        client.sendall(sent)
        received = b"".join(iter(lambda: client.recv(2**16), b""))

    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    length = re.search(rb"\r\ninference-header-content-length: (\d+)", head, re.IGNORECASE)
    assert bool(length) == (path.stem == "binary")
    reply = json.loads(body[: int(length[1])] if length else body)
    assert (reply["id"], reply["model_name"]) == ("r-1", "digits")
    sizes = [40, 8, 4]
    if length:
        data = body[int(length[1]) :]
        assert [o["parameters"]["binary_data_size"] for o in reply["outputs"]] == sizes
        probabilities, digit = np.frombuffer(data[:40], "<f4"), np.frombuffer(data[40:48], "<i8")
    else:
        probabilities, digit = (reply["outputs"][i]["data"] for i in (0, 1))
    with np.load(expected) as outputs:
        np.testing.assert_allclose(probabilities, outputs["probabilities"][0], rtol=1e-6)
        np.testing.assert_array_equal(digit, outputs["digit"][:1])


def snippets() -> list[tuple[Block, Block]]:
    """Return the code of the page, each with the output that it shows."""
    found = blocks(PAGE)
    return [
        (code, output)
        for code, output in itertools.pairwise(found)
        if code.kind in ("sh", "py", "js") and output.kind in ("json", "text")
    ]


COMMANDS = {
    "sh": ["bash", "-euo", "pipefail"],
    "py": [str(PYTHON)],
    "js": ["node", "--input-type=module"],
}


@pytest.mark.parametrize(("code", "output"), snippets(), ids=lambda block: block.text[:40])
def test_snippet_of_the_page_has_the_output_that_it_shows(service, code, output):
    command = COMMANDS[code.kind]
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    address = service.url.removeprefix("http://")
    run = subprocess.run(
        [*command, *(["-"] if code.kind != "sh" else [])],
        input=code.text.replace(HERE.removeprefix("http://"), address),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    if output.kind == "json":
        assert differences(json.loads(output.text), json.loads(run.stdout)) == []
    else:
        assert differences(output.text.strip(), run.stdout.strip()) == []


def test_page_has_a_snippet_for_each_client():
    code = "".join(code.text for code, _ in snippets())

    n_code = sum(block.kind in ("sh", "py", "js") for block in blocks(PAGE))
    assert len(snippets()) == n_code
    for word in ("curl", "import requests", "await fetch(", "tritonclient", "base64"):
        assert word in code, word
