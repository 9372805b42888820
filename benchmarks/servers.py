"""Servers under test and the load generator."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PEERS_BIN = ROOT / ".venv-peers" / "bin"
POST = ROOT / "benchmarks" / "post.lua"
STARTUP_TIMEOUT = 60.0  # seconds
SHUTDOWN_TIMEOUT = 10.0  # seconds
FORM_BOUNDARY = "digits"
FORM = f"multipart/form-data; boundary={FORM_BOUNDARY}"
OWN = "service.server.worker.EventLoopWorker"


class Server(NamedTuple):
    """A running server: the id of its main process and its address."""

    pid: int
    url: str

    def processes(self) -> list[int]:
        """List the ids of the main process and all its descendants."""
        found = [self.pid]
        for pid in found:
            with suppress(FileNotFoundError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
        return found

    def cpu(self) -> float:
        """Return the CPU seconds that all processes have used."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss(self) -> float:
        """Return the proportional set size of all processes in MB (10^6 bytes)."""
        kib = 0
        for pid in self.processes():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += int(text.split("Pss:")[1].split()[0])
        return kib * 1024 / 1e6


def service(*flags: str, tree: Path = ROOT) -> list[str]:
    """Return the command that runs the service of a source tree."""
    config = str(tree / "service" / "gunicorn.conf.py")
    return [str(BIN / "gunicorn"), "-c", config, *flags, "service.app:create_app()"]


def gunicorn(reference: str, worker_class: str, folder: Path = BIN) -> list[str]:
    """Return the command that runs an application with the service's worker counts.

    folder: the programs of an environment
    """
    # our own worker refuses a number of threads, which has no effect on it
    threads = ("--threads", "4") if worker_class == "gthread" else ()
    return [
        *(str(folder / "gunicorn"), "--bind", "127.0.0.1:$PORT", "--workers", "2"),
        *("--worker-class", worker_class, *threads),
        *("--no-control-socket", f"benchmarks.{reference}"),
    ]


@contextmanager
def running(
    command: list[str], path: str = "/", settings: Mapping[str, str] = {}, tree: Path = ROOT
) -> Iterator[Server]:
    """Run a server with two workers on a free port, and stop it after the block.

    path: the URL path that is polled until the server responds; settings: environment
    variables; tree: the source tree whose packages are imported. "$PORT" in the command
    stands for the port.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [word.replace("$PORT", port) for word in command],
        cwd=tree,
        env={
            **os.environ,
            "PORT": port,
            "WEB_CONCURRENCY": "2",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(tree),
            **settings,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Server(process.pid, f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + STARTUP_TIMEOUT
        while not answers(server.url + path):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"no response from: {' '.join(command)}")
            time.sleep(0.002)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=SHUTDOWN_TIMEOUT)
        except subprocess.TimeoutExpired:
            # gunicorn's own workers lose a SIGTERM that arrives while they start
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    """Return whether a server responds, with a success or an error."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError):
        return False


class Load(NamedTuple):
    """Results of one run of the load generator."""

    rate: float  # requests/s
    p50: float  # ms
    p99: float  # ms
    requests: int
    errors: int
    cpu: float  # µs of the server's CPU per request


def load(server: Server, bodies: Path, connections: int, seconds: float, kind: str = FORM) -> Load:
    """Post bodies to /predict in turn over keep-alive connections, with wrk.

    bodies: a Lua file that returns a list of strings; kind: their content type.
    """
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk")
    before = server.cpu()
    run = subprocess.run(
        [
            *("wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", "30s"),
            *("--script", str(POST), f"{server.url}/predict"),
            *("--", str(bodies), kind),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(run.stdout.splitlines()[-1])
    cpu = (server.cpu() - before) / max(measured["requests"], 1)
    return Load(**measured, cpu=1e6 * cpu)


def predict(server: Server, body: bytes, kind: str = FORM) -> dict[str, Any]:
    """Post one body to /predict and return the parsed reply."""
    request = urllib.request.Request(
        f"{server.url}/predict", data=body, headers={"Content-Type": kind}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return dict(json.load(reply))


def write_bodies(path: Path, bodies: list[bytes]) -> Path:
    """Write bodies as a Lua list of strings and return the path."""
    lines = ("".join(f"\\{byte:03}" for byte in body) for body in bodies)
    path.write_text("return {" + "".join(f'"{line}",\n' for line in lines) + "}\n")
    return path


def form(upload: bytes) -> bytes:
    """Return the multipart form that curl and browsers send for a file."""
    extension = "jpeg" if upload.startswith(b"\xff\xd8") else "png"
    head = (
        f'--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="digit.{extension}"\r\nContent-Type: image/{extension}\r\n\r\n'
    )
    return head.encode() + upload + f"\r\n--{FORM_BOUNDARY}--\r\n".encode()
