"""The service on what platforms give it: sockets, flags, signals, logs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.server.balancing import SLOTS, free_slot
from service.settings import MAX_WORKERS
from tests.conftest import (
    PATIENCE,
    ROOT,
    answers,
    curl,
    free_port,
    running_service,
    start_service,
    wait_until,
)

PICTURE = ROOT / "docs" / "digit.png"
GUNICORN = [
    str(Path(sys.executable).parent / "gunicorn"),
    *("-c", "service/gunicorn.conf.py", "service.app:create_app()"),
]


@contextmanager
def started(*command: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command whose output is read at its end; stop it after the block."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"WEB_CONCURRENCY": "1"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def log_of(process: subprocess.Popen[str]) -> list[dict]:
    process.terminate()
    return [json.loads(line) for line in process.communicate(timeout=PATIENCE)[0].splitlines()]


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(path)
    return client


def is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def ask(path: str, message: bytes) -> bytes:
    with connect(path) as client:
        client.sendall(message)
        return b"".join(iter(lambda: client.recv(2**16), b""))


REFUSED = {
    400: b"nonsense\r\n\r\n",
    413: b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    414: b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
    417: b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n\r\n",
    431: b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    408: b"GET / HTTP/1.1\r\nHo",
    404: b"GET /nowhere HTTP/1.0\r\n\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unix:{}/digits.sock", "unix:@{}"], ids=["file", "abstract"])
def test_requests_and_refusals_are_answered_over_a_unix_socket(name, tmp_path):
    bind = name.format(tmp_path)
    path = bind.removeprefix("unix:").replace("@", "\0", 1)
    log = {"GUNICORN_CMD_ARGS": f"--bind {bind}", "DIGITS_ACCESS_LOG": "1"}
    with started(*GUNICORN, **log) as process:
        wait_until(lambda: is_listening(path) or process.poll() is not None)
        for status, message in REFUSED.items():
            reply = ask(path, message)
            assert int(reply.split()[1]) == status
            assert json.loads(reply.partition(b"\r\n\r\n")[2])["status"] == status
        headers = b"Host: x\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n"
        reply = ask(path, b"GET /livez HTTP/1.1\r\n" + headers + b"\r\n")
        assert reply.startswith(b"HTTP/1.1 200 ")
        lines = log_of(process)

    assert process.returncode == 0
    assert not (tmp_path / "digits.sock").exists()
    clients = [line["client"] for line in lines if "client" in line]
    assert clients == ["unix socket"] * len(REFUSED) + ["203.0.113.9"]


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd")
def test_socket_of_systemd_is_used(tmp_path):
    path = str(tmp_path / "systemd.sock")
    with started("systemd-socket-activate", "--listen", path, *GUNICORN):
        wait_until(lambda: is_listening(path))
        reply = ask(path, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("kind", ["TCP", "IPv6", "Unix"])
def test_address_in_use_is_one_line_that_names_it(kind, tmp_path):
    with ExitStack() as stack:
        if kind == "Unix":
            where = f"unix:{tmp_path / 'taken.sock'}"
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(where.removeprefix("unix:"))
            server.listen()
        else:
            host, family = ("::1", socket.AF_INET6) if kind == "IPv6" else ("127.0.0.1", None)
            server = stack.enter_context(
                socket.create_server((host, 0), family=family or socket.AF_INET)
            )
            where = f"{host}:{server.getsockname()[1]}"
        bind = where.replace("::1", "[::1]")
        process = start_service(GUNICORN_CMD_ARGS=f"--bind {bind}")
        _, error = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert error.startswith(f"digits: cannot listen on {where}: address already in use; ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("192.0.2.1:8000", "cannot assign requested address"),
        ("unix:/absent/digits.sock", "no such file or directory"),
        ("unix:/proc/digits.sock", "no"),  # such file, or permission
        ("unix:/etc/passwd", "'/etc/passwd' is not a socket"),
        (f"unix:/{'a' * 200}", "af_unix path too long"),
        ("absent.invalid:8000", ""),
    ],
)
def test_address_that_cannot_be_listened_on_is_one_line(bind, reason):
    process = start_service(GUNICORN_CMD_ARGS=f"--bind {bind}")

    _, error = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert error.startswith(f"digits: cannot listen on {bind}: {reason}")
    assert error.count("\n") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_port_that_only_root_may_open_is_one_line():
    bounds = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if bounds.read_text().strip() == "0":
        pytest.skip("any user may listen on any port here")
    script = (
        "import sys; from gunicorn.config import Config; from gunicorn.glogging import Logger\n"
        "from service.server.listeners import open_listeners\n"
        "import os; config = Config(); config.set('bind', '127.0.0.1:81'); log = Logger(config)\n"
        "os.setuid(65534); open_listeners(config, log)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert run.stderr.startswith("digits: cannot listen on 127.0.0.1:81: permission denied; ")


NO_EFFECT = [
    *(("--max-requests", "5"), ("--access-logfile", "/dev/null"), ("--certfile", "pyproject.toml")),
    *(("--http-parser", "fast"), ("--keep-alive", "0"), ("--workers", "129")),
]
MORE_WITHOUT_EFFECT = [
    *(("--max-requests-jitter", "5"), ("--reload", ""), ("--error-logfile", "/dev/null")),
    *(("--access-logformat", "%(h)s"), ("--log-syslog", ""), ("--capture-output", "")),
    *(("--statsd-host", "localhost:1"), ("--statsd-prefix", "x"), ("--dogstatsd-tags", "x")),
    *(("--keyfile", "pyproject.toml"), ("--ciphers", "x"), ("--ca-certs", "x")),
    *(("--proxy-protocol", "v1"), ("--protocol", "uwsgi"), ("--http2-cleartext", "both")),
    *(("--root-path", "/x"), ("--forwarder-headers", "SCRIPT_NAME"), ("--reuse-port", "")),
    *(("--control-socket", "/x"), ("--threads", "4"), ("--workers", "0"), ("--timeout", "1")),
]


@pytest.mark.parametrize(
    ("flag", "value"),
    [*NO_EFFECT, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE_WITHOUT_EFFECT)],
)
def test_flag_without_an_effect_aborts_startup_by_its_name(flag, value):
    port = str(free_port())
    process = start_service(GUNICORN_CMD_ARGS=f"{flag} {value}".strip(), PORT=port)

    _, error = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert error.startswith(f"digits: {flag} is ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_flags_that_are_honoured_have_their_effect():
    flags = (
        "--access-logfile - --log-level warning --keep-alive 1 --limit-request-line 100 "
        "--limit-request-fields 9 --limit-request-field_size 200 --graceful-timeout 5 "
        "--worker-connections 50 --backlog 10 --timeout 20 --preload --env SCRIPT_NAME=/digits"
    )
    with running_service(GUNICORN_CMD_ARGS=flags, WEB_CONCURRENCY="1") as service:
        assert curl(f"{service.url}/digits/livez")[0] == 200
        assert curl(f"{service.url}/{'a' * 100}")[0] == 414
        assert curl("-H", f"X: {'a' * 200}", service.url)[0] == 431
        assert curl(*[f"-HX{i}: 1" for i in range(9)], service.url)[0] == 431
        host, _, port = service.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=8) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            while client.recv(2**16):
                pass  # closed after a second
        lines = log_of(service.process)

    assert {line["level"] for line in lines} == {"info"}  # the requests; no "Booting worker"
    assert "GET /livez" in {line["message"] for line in lines}
    assert not any("Listening" in line["message"] for line in lines)


def test_more_workers_than_slots_are_refused_by_the_master(tmp_path):
    config = tmp_path / "few.py"
    shipped = str(ROOT / "service" / "gunicorn.conf.py")
    config.write_text(f"exec(open({shipped!r}).read())\nMAX_WORKERS = 2\n")
    with running_service(config=str(config), WEB_CONCURRENCY="1") as service:
        service.process.send_signal(signal.SIGTTIN)
        wait_until(lambda: len(service.workers()) == 2)
        service.process.send_signal(signal.SIGTTIN)
        warning = next(line for line in service.process.stdout if "warning" in line)
        assert len(service.workers()) == 2
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(service.workers()) == 1)
        assert curl(f"{service.url}/readyz")[0] == 200

    assert json.loads(warning)["message"] == "3 workers are too many; keeping 2"
    assert service.process.returncode == 0


def test_every_worker_has_a_slot():
    assert MAX_WORKERS <= SLOTS / 2  # a reload runs the old and the new workers together
    assert free_slot(range(SLOTS)) == SLOTS - 1  # shared rather than none


def test_new_master_takes_over_the_sockets(tmp_path):
    pidfile = tmp_path / "pid"
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with started(*GUNICORN, "--pid", str(pidfile), PORT=port) as old:
        wait_until(lambda: answers(f"{url}/readyz"))
        old.send_signal(signal.SIGUSR2)
        wait_until(lambda: Path(f"{pidfile}.2").exists())
        new = int(Path(f"{pidfile}.2").read_text())
        children = Path(f"/proc/{new}/task/{new}/children")
        wait_until(lambda: bool(children.read_text()))
        old.terminate()
        old.wait(timeout=PATIENCE)
        try:
            assert curl(f"{url}/readyz")[0] == 200
        finally:
            os.kill(new, signal.SIGTERM)
    wait_until(lambda: not answers(f"{url}/readyz"))


@pytest.mark.parametrize(("setting", "n"), [("no-probes", 0), ("1", 3)])
def test_probes_that_succeed_can_be_left_out_of_the_access_log(setting, n):
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with started(*GUNICORN, PORT=port, DIGITS_ACCESS_LOG=setting) as process:
        wait_until(lambda: is_open(port))
        for path in ("livez", "readyz", "metrics"):
            assert curl(f"{url}/{path}")[0] == 200
        assert curl("-X", "DELETE", f"{url}/livez")[0] == 405
        assert curl(f"{url}/model")[0] == 200
        logged = [line["message"] for line in log_of(process) if "status" in line]

    assert len(logged) == n + 2
    assert logged[-2:] == ["DELETE /livez", "GET /model"]


def is_open(port: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.mark.parametrize(
    ("start", "name"), [(b"\x16\x03\x01\x02", "TLS"), (b"PRI * HTTP/2.0\r\n", "HTTP/2")]
)
def test_other_protocols_are_answered_and_logged_at_once(start, name):
    port = str(free_port())
    with started(*GUNICORN, PORT=port) as process:
        wait_until(lambda: is_open(port))
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", int(port)), timeout=8) as client:
                client.sendall(start)
                assert name.encode() in client.recv(2**16)
        warnings = [line["message"] for line in log_of(process) if line["level"] == "warning"]

    (warning,) = warnings  # not one per client
    assert name in warning
    assert "127.0.0.1" in warning
