"""Servers to measure, and the load they are measured under."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
POST = ROOT / "benchmarks" / "post.lua"
READY_WITHIN = 60.0  # seconds
FORM_BOUNDARY = "digits"
FORM = f"multipart/form-data; boundary={FORM_BOUNDARY}"
OWN = "service.server.worker.EventLoopWorker"


class Server(NamedTuple):
    """A running server: its master's process and its address."""

    pid: int
    url: str

    def processes(self) -> list[int]:
        """List the master and all its descendants."""
        found = [self.pid]
        for pid in found:
            with suppress(FileNotFoundError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
        return found

    def cpu(self) -> float:
        """Sum the CPU seconds of all processes."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss(self) -> float:
        """Sum the proportional set size of all processes, in MB (10^6)."""
        kib = 0
        for pid in self.processes():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += int(text.split("Pss:")[1].split()[0])
        return kib * 1024 / 1e6


def service(*flags: str) -> list[str]:
    """Give the command that runs the service."""
    config = str(ROOT / "service" / "gunicorn.conf.py")
    return [str(BIN / "gunicorn"), "-c", config, *flags, "service.app:create_app()"]


def gunicorn(reference: str, worker_class: str) -> list[str]:
    """Give the command that runs one of the references, as the service is run."""
    return [
        *(str(BIN / "gunicorn"), "--bind", "127.0.0.1:$PORT", "--workers", "2"),
        *("--worker-class", worker_class, "--threads", "4"),
        *("--no-control-socket", f"benchmarks.{reference}"),
    ]


@contextmanager
def running(command: list[str], path: str = "/", **settings: str) -> Iterator[Server]:
    """Run a server of two workers on a free port until it answers, then stop it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [word.replace("$PORT", port) for word in command],
        cwd=ROOT,
        env=os.environ
        | {"PORT": port, "WEB_CONCURRENCY": "2", "OPENBLAS_NUM_THREADS": "1"}
        | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Server(process.pid, f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not answers(server.url + path):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"no answer from: {' '.join(command)}")
            time.sleep(0.002)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            # gunicorn's own classes lose a stop that meets a worker at its birth
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    """Tell whether a server answers, be it with an error."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError):
        return False


class Load(NamedTuple):
    """What wrk measured; latencies in ms."""

    rate: float  # requests a second
    p50: float
    p99: float
    requests: int
    errors: int


def load(url: str, bodies: Path, kind: str, connections: int, seconds: float) -> Load:
    """Post the bodies in turn over kept-alive connections, for some seconds.

    bodies: a Lua file that returns a list of strings; kind: their content type.
    """
    if not shutil.which("wrk"):
        sys.exit("the load is wrk: apt-get install wrk")
    run = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", "30s"),
            *("--script", str(POST), url, "--", str(bodies), kind),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return Load(**json.loads(run.stdout.splitlines()[-1]))


def write_bodies(path: Path, bodies: list[bytes]) -> Path:
    """Write bodies as a Lua list, which any Lua reads."""
    lines = ("".join(f"\\{byte:03}" for byte in body) for body in bodies)
    path.write_text("return {" + "".join(f'"{line}",\n' for line in lines) + "}\n")
    return path


def form(upload: bytes) -> bytes:
    """Write the form in which curl and browsers post a file."""
    head = (
        f"--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="image"; filename="digit.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    return head.encode() + upload + f"\r\n--{FORM_BOUNDARY}--\r\n".encode()
