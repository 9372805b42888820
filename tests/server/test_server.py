"""The service under gunicorn, with real ports and curl."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.settings import EMBEDDED_WEIGHTS
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


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"DIGITS_WEIGHTS": "/absent"}, "digits: weights /absent: No such file"),
        ({"DIGITS_WEIGHTS": "/dev/null"}, "digits: weights /dev/null: not a safetensors"),
        ({"PORT": "http"}, "digits: PORT is 'http'; set a number from 1 to 65535"),
        ({"PORT": "1" * 5000}, "digits: PORT is '111"),
        ({"WEB_CONCURRENCY": "0"}, "digits: WEB_CONCURRENCY is '0'; set a number"),
        ({"DIGITS_HOST": "127.0.0.1:9"}, "digits: DIGITS_HOST is '127.0.0.1:9'; set"),
        ({"DIGITS_WEIGHTS": ":"}, "digits: DIGITS_WEIGHTS is ':'; name a file"),
        (
            {"DIGITS_WEIGHT": "x"},
            "digits: unknown setting DIGITS_WEIGHT; did you mean DIGITS_WEIGHTS?",
        ),
        ({"DIGITS_ACCESS_LOG": "yes"}, "digits: DIGITS_ACCESS_LOG is 'yes'; set 0"),
        ({"DIGITS_WEIGHTS": "x" * 300}, "File name too long"),
        (
            {"DIGITS_MAX_PIXELS": "90000000"},
            "digits: DIGITS_MAX_PIXELS is '90000000'; set a number from 1024 to",
        ),
        ({"DIGITS_MAX_BYTES": "16 MB"}, "digits: DIGITS_MAX_BYTES is '16 MB'; set"),
        (
            {"DIGITS_MAX_BYTE": "9"},
            "unknown setting DIGITS_MAX_BYTE; did you mean DIGITS_MAX_BYTES?",
        ),
    ],
)
def test_invalid_setting_aborts_startup_with_a_one_line_message(settings, sentence):
    process = start_service(**settings)

    _, err = process.communicate(timeout=30)

    assert process.returncode == 1
    assert sentence in err
    assert "Traceback" not in err


def test_workers_are_as_many_as_configured_and_none_maps_torch(weights):
    with running_service(DIGITS_WEIGHTS=str(weights), WEB_CONCURRENCY="3") as service:
        wait_until(lambda: len(service.workers()) == 3)
        for pid in service.workers():
            assert "torch" not in Path(f"/proc/{pid}/maps").read_text()


def test_service_listens_on_loopback_by_default(weights):
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        port = int(service.url.rsplit(":", 1)[1])
        listening = [
            line.split()[1]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        ]

    assert listening == [f"0100007F:{port:04X}"]


def test_sigterm_ends_the_service_with_status_0(weights):
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        service.process.terminate()
        service.process.wait(timeout=30)

    assert service.process.returncode == 0


def extended_config(path: Path, lines: str) -> str:
    """Write a gunicorn configuration of the service's lines and more; return its path."""
    own = ROOT / "service" / "gunicorn.conf.py"
    path.write_text(f"exec(open({str(own)!r}).read())\n{lines}")
    return str(path)


def test_sigterm_before_the_worker_installs_its_handlers_is_not_lost(weights, tmp_path):
    config = extended_config(
        tmp_path / "early_signal.py",
        "import signal, time\n"
        "def post_fork(server, worker):\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "    time.sleep(1)  # in which the master forwards it\n",
    )

    process = start_service(config, DIGITS_WEIGHTS=str(weights), PORT=str(free_port()))
    _, err = process.communicate(timeout=20)  # a lost one takes 30 s

    assert process.returncode == 0, err


def test_sigterm_while_the_application_is_loaded_ends_the_start(weights, tmp_path):
    """Process 1 of a container would ignore it without a handler."""
    config = extended_config(tmp_path / "c.py", "os.kill(os.getpid(), signal.SIGTERM)\n")

    process = start_service(config, DIGITS_WEIGHTS=str(weights), PORT=str(free_port()))
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (0, "", "")


def test_invalid_setting_of_env_is_one_line(weights, tmp_path):
    config = extended_config(tmp_path / "c.py", "raw_env = ['SCRIPT_NAME=digits']\n")

    process = start_service(config, DIGITS_WEIGHTS=str(weights), PORT=str(free_port()))
    _, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert err.startswith("digits: SCRIPT_NAME is 'digits'")
    assert err.count("\n") == 1


def test_sockets_that_another_process_inherits_are_no_reason_to_share_an_address(url):
    port = url.rpartition(":")[2]

    process = start_service(PORT=port, LISTEN_FDS="1", LISTEN_PID="1")
    _, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in err


def test_removed_file_of_the_socket_does_not_hinder_a_stop(weights, tmp_path):
    path = tmp_path / "socket"
    config = extended_config(tmp_path / "c.py", f"bind = ['unix:{path}']\n")
    process = start_service(config, DIGITS_WEIGHTS=str(weights))
    next(line for line in process.stdout if "Booting" in line)
    path.unlink()

    process.terminate()
    _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_signal_to_a_worker_while_it_is_forked_is_not_lost(how, weights, tmp_path):
    """The first worker is told to stop before it runs; the master starts another."""
    config = extended_config(
        tmp_path / "signal_at_fork.py",
        "import signal\n"
        "fork, pids = os.fork, []\n"
        "def stopping_the_first():\n"
        "    pids.append(fork())\n"
        "    if pids[0] and len(pids) == 1:\n"
        f"        os.kill(pids[0], signal.{how})\n"
        "    return pids[-1]\n"
        "os.fork = stopping_the_first\n",
    )
    process = start_service(
        config, DIGITS_WEIGHTS=str(weights), PORT=str(free_port()), WEB_CONCURRENCY="1"
    )
    try:
        said = [next(line for line in process.stdout if "Booting" in line) for _ in range(2)]
    finally:
        process.terminate()
        process.communicate(timeout=20)

    assert said[0] != said[1]


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


def test_ipv6_host_is_listened_on(weights):
    process = start_service(DIGITS_WEIGHTS=str(weights), DIGITS_HOST="::1", PORT=str(free_port()))
    try:
        line = next(line for line in process.stdout if "Listening at" in line)
    finally:
        process.terminate()
        process.communicate(timeout=30)

    assert "http://[::1]:" in line


def test_settings_command_prints_the_settings_in_effect(tmp_path):
    command = [sys.executable, "-m", "service", "settings"]
    environment = {"PATH": os.environ["PATH"], "PORT": "9", "DIGITS_HOST": "::1"}

    run = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    wrong = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"DIGITS_PORT": "9"},
        capture_output=True,
        text=True,
        check=False,
    )

    lines = dict(line.split("=") for line in run.stdout.splitlines())
    assert lines["DIGITS_WEIGHTS"] == str(EMBEDDED_WEIGHTS)
    assert (lines["DIGITS_HOST"], lines["PORT"]) == ("[::1]", "9")
    assert int(lines["WEB_CONCURRENCY"]) >= 1
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("digits: unknown setting DIGITS_PORT; did you mean ")


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
