"""Starts and stops of the service: settings, addresses, signals."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT, free_port, running_service, start_service, wait_until


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


def test_sockets_that_another_process_inherits_are_no_reason_to_share_an_address():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
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
    """The first worker receives the signal before it runs; the master starts another."""
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
