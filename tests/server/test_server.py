"""The service under gunicorn, with real ports and curl."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import (
    ROOT,
    answers,
    curl,
    encode,
    free_port,
    running_service,
    start_service,
    wait_until,
)


@pytest.fixture(scope="module")
def url(weights):
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        yield service.url


@pytest.fixture
def digit(drawn, tmp_path) -> Path:
    path = tmp_path / "digit.png"
    path.write_bytes(encode(drawn.test.images[0]))
    return path


def test_curl_gets_the_digit_for_a_form_or_a_body(url, digit, drawn):
    form = curl("-F", f"image=@{digit}", f"{url}/predict")
    body = curl(*("--data-binary", f"@{digit}", "-H", "Content-Type: image/png"), f"{url}/predict")

    assert form == body
    assert form[:2] == (200, "application/json")
    assert json.loads(form[2])["digit"] == drawn.test.labels[0]


def test_curl_gets_a_problem_document_for_a_text_file(url):
    status, kind, body = curl("-F", f"image=@{ROOT / 'pyproject.toml'}", f"{url}/predict")

    assert (status, kind) == (415, "application/problem+json")
    assert "not a picture" in json.loads(body)["detail"]


@pytest.mark.parametrize("chunked", [[], ["-H", "Transfer-Encoding: chunked"]])
def test_upload_over_the_limit_is_refused(url, chunked, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(17 * 2**20))

    status, kind, _ = curl(
        *("--data-binary", f"@{path}", "-H", "Content-Type: image/png", "-H", "Expect:"),
        *(*chunked, f"{url}/predict"),
    )

    assert (status, kind) == (413, "application/problem+json")


def test_probes_answer_with_status_200(url):
    assert curl(f"{url}/livez")[0] == 200
    assert curl(f"{url}/readyz")[0] == 200


def test_body_with_a_malformed_chunk_is_refused(url):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"
        )
        reply = connection.recv(4096).decode()

    assert reply.startswith("HTTP/1.1 400 ")
    assert "application/problem+json" in reply


def test_headers_cannot_set_script_name(url):
    assert curl("-H", "SCRIPT_NAME: /foo", f"{url}/livez")[0] == 200


def test_configured_limits_apply_and_are_documented(weights, tmp_path):
    limits = {
        "DIGITS_MAX_BYTES": 65_536,
        "DIGITS_MAX_PICTURES": 2,
        "DIGITS_MAX_FIELDS": 1,
        "DIGITS_MAX_PIXELS": 1_024,
        "DIGITS_MAX_IMAGES": 3,
    }
    file = tmp_path / "x.png"
    file.write_bytes(encode(np.zeros((33, 32), np.uint8)))
    part = ("-F", f"image=@{file}")
    many = tmp_path / "many"
    many.write_bytes(bytes(4 * 784))
    large = tmp_path / "large"
    large.write_bytes(bytes(65_537))
    bulk = ("-H", "Content-Type: application/octet-stream", "--data-binary")

    with running_service(
        DIGITS_WEIGHTS=str(weights), **{name: str(n) for name, n in limits.items()}
    ) as service:
        there = f"{service.url}/predict"
        replies = [
            curl(*part, there),
            curl(*part, *part, *part, there),
            curl(*part, "-F", "a=b", "-F", "c=d", there),
            curl(*bulk, f"@{many}", there),
            curl(*bulk, f"@{large}", there),
        ]
        described = curl(f"{service.url}/openapi.json")[2]

    words = ("at most 1,024", "at most 2", "at most 1 ", "at most 3", "65,536 bytes")
    for (status, _, text), named in zip(replies, words, strict=True):
        assert status == (422 if named == words[0] else 413)
        assert named in json.loads(text)["detail"]
    assert "65,536 bytes at most" in described


def test_request_keeps_its_valid_id_or_gets_a_new_one(url):
    def ids(*arguments: str) -> list[str]:
        command = ["curl", "-sS", "-i", *arguments, f"{url}/livez"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return re.findall(r"(?im)^X-Request-ID: (.*?)\r?$", out)

    assert ids("-H", "X-Request-ID: abc-123_x.y") == ["abc-123_x.y"]
    for bad in ("a b", "x" * 200, 'a"b', "<script>"):
        (given,) = ids("-H", f"X-Request-ID: {bad}")
        assert re.fullmatch("[0-9a-f]{16}", given)
    assert ids() != ids()
    # a request that is refused before the application has an id too
    head = subprocess.run(
        ["curl", "-sS", "-i", "-H", "Content-Length: 99999999999", "-d", "", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "413" in head.splitlines()[0]
    assert "X-Content-Type-Options: nosniff" in head
    assert len(ids("-H", "Content-Length: 99999999999", "-X", "POST")) == 1


def test_logs_are_json_lines_with_requests_if_enabled(weights):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    port = str(free_port())
    process = start_service(DIGITS_WEIGHTS=str(weights), PORT=port, DIGITS_ACCESS_LOG="1")
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/readyz"))
    curl(*("-H", "X-Request-ID: mine", "-H", f"traceparent: {trace}"), f"{url}/x%22%0a%7B")
    curl(
        *("-H", "X-Request-ID: too-large", "-H", "Content-Length: 99999999", "-d", ""),
        f"{url}/predict",
    )
    process.terminate()
    out, err = process.communicate(timeout=30)

    lines = [json.loads(line) for line in out.splitlines()]
    (refused,) = [line for line in lines if line.get("id") == "too-large"]
    assert (refused["status"], refused["message"]) == (413, "POST /predict")
    (line,) = [line for line in lines if line.get("id") == "mine"]
    assert line["message"] == 'GET /x"\n{'
    assert (line["status"], line["traceparent"]) == (404, trace)
    assert line["client"] == "127.0.0.1"
    assert 0 < line["seconds"] < 5
    assert line["time"].endswith("+00:00")
    assert any("Listening at" in line["message"] for line in lines)
    assert err == ""


def test_full_log_pipe_blocks_nothing_and_dropped_lines_are_counted():
    port = free_port()
    settings = {"PORT": str(port), "WEB_CONCURRENCY": "1", "DIGITS_ACCESS_LOG": "1"}
    process = start_service(**settings)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/livez"))
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
            for _ in range(600):
                client.request("GET", "/livez")
                assert client.getresponse().read()
            # the pipe is read again
            read = os.read(process.stdout.fileno(), 2**20)
            client.request("GET", "/livez")
            assert client.getresponse().read()
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    lines = [json.loads(line) for line in read.decode().splitlines()[:-1]]
    assert len(lines) > 100
    assert re.search(r'"message": "\d+ log lines dropped: standard output was full"', rest)


def test_requests_are_not_logged_by_default(weights):
    port = str(free_port())
    process = start_service(DIGITS_WEIGHTS=str(weights), PORT=port)
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
    process.terminate()
    out, _ = process.communicate(timeout=30)

    assert "/readyz" not in out
