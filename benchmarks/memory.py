"""Memory of the service with two workers under load, beside an empty gunicorn's.

python -m benchmarks.memory
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = (ROOT / "docs" / "digit.png").read_bytes()
N_REQUESTS, N_CLIENTS = 4_000, 8
NO_OP = """
def application(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}"]
"""


@contextmanager
def _gunicorn(application: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Run gunicorn as the service does; give the master's pid and the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "gunicorn"),
            *("-c", str(ROOT / "service" / "gunicorn.conf.py"), application),
        ],
        cwd=folder,
        env=os.environ | {"PORT": str(port), "WEB_CONCURRENCY": "2"},
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(2)
        yield process.pid, f"http://127.0.0.1:{port}/predict"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _load(url: str) -> None:
    """Post the picture N_REQUESTS times from N_CLIENTS threads."""

    def post() -> None:
        for _ in range(N_REQUESTS // N_CLIENTS):
            request = urllib.request.Request(
                url, data=PICTURE, headers={"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request, timeout=30) as reply:
                reply.read()

    clients = [threading.Thread(target=post) for _ in range(N_CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def _pss(pid: int) -> float:
    """Sum the proportional set size of a process and its children, in MB (10^6)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    rollups = [Path(f"/proc/{p}/smaps_rollup").read_text() for p in (pid, *children)]
    return sum(int(text.split("Pss:")[1].split()[0]) for text in rollups) * 1024 / 1e6


def measure() -> None:
    """Print the memory of both servers after the same load, and its ratio."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.py").write_text(NO_OP)
        sizes = {}
        for name, application, place in (
            ("empty gunicorn", "empty:application", Path(folder)),
            ("the service", "service.app:create_app()", ROOT),
        ):
            with _gunicorn(application, place) as (pid, url):
                _load(url)
                sizes[name] = _pss(pid)
            print(f"{name:<16}{sizes[name]:>6.1f} MB PSS, master and 2 workers")
    print(f"ratio           {sizes['the service'] / sizes['empty gunicorn']:>6.2f}")


if __name__ == "__main__":
    measure()
