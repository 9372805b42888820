"""Requests lost while the service is stopped, reloaded, or loses a worker.

python -m benchmarks.drills [--runs 10]
"""

import argparse
import contextlib
import http.client
import os
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.servers import Server, running, service
from benchmarks.uploads import png
from service.settings import EMBEDDED_WEIGHTS
from training.data.synthetic import draw_digits

N_CLIENTS, N_IDLE = 16, 2_000
RUNS = 10


class Clients:
    """Clients that post one picture after another over keep-alive connections."""

    def __init__(self, server: Server) -> None:
        self.address = urlsplit(server.url).netloc
        self.answered = self.lost = 0
        self.causes: set[str] = set()
        self.stopped = threading.Event()
        self._body = png(draw_digits(10, 10).test.images[0])
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._post) for _ in range(N_CLIENTS)]

    @contextmanager
    def posting(self) -> Iterator["Clients"]:
        """Post in the background, starting half a second before the block."""
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in self._threads:
                thread.join()

    def _post(self) -> None:
        client = http.client.HTTPConnection(self.address, timeout=30)
        headers = {"Content-Type": "image/png"}
        while not self.stopped.is_set():
            with contextlib.closing(client):
                try:
                    client.connect()
                except OSError:
                    time.sleep(0.01)  # refused connections lose no request
                    continue
                try:
                    is_open = True
                    while is_open and not self.stopped.is_set():
                        client.request("POST", "/predict", self._body, headers)
                        reply = client.getresponse()
                        reply.read()
                        is_open = not reply.will_close
                        self._count(None if reply.status == 200 else str(reply.status))
                except (OSError, http.client.HTTPException) as error:
                    self._count(repr(error))

    def _count(self, cause: str | None) -> None:
        with self._lock:
            self.answered += cause is None
            if cause:
                self.lost += 1
                self.causes.add(cause)


def stop(server: Server, weights: Path) -> None:
    """Stop the service with SIGTERM."""
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while _is_running(server.pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def reload(server: Server, weights: Path) -> None:
    """Replace all workers with SIGHUP."""
    before = set(server.processes()[1:])
    os.kill(server.pid, signal.SIGHUP)
    _wait(lambda: not before & set(server.processes()[1:]))


def swap(server: Server, weights: Path) -> None:
    """Replace the weights file with a new version, five times in a row."""
    content = weights.read_bytes()
    for _ in range(5):
        content = _other_version(content)
        part = weights.with_name("part")
        part.write_bytes(content)
        part.replace(weights)
        time.sleep(0.4)


def kill(server: Server, weights: Path) -> None:
    """Kill one of the two workers with SIGKILL."""
    victim = server.processes()[1]
    os.kill(victim, signal.SIGKILL)
    _wait(lambda: len(server.processes()) == 3 and victim not in server.processes())


def idle(server: Server, weights: Path) -> None:
    """Hold 2,000 idle connections open for three seconds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = urlsplit(server.url).netloc.partition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(N_IDLE):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        time.sleep(3)


# each drill with the maximum number of requests that may be lost in a run
DRILLS: dict[Callable[[Server, Path], None], int] = {
    stop: 0,
    reload: 0,
    swap: 0,
    kill: N_CLIENTS,  # the requests that the worker held, one of each client at most
    idle: 0,
}


def run(drill: Callable[[Server, Path], None]) -> Clients:
    """Run one drill on its own service and return the clients with their counts."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(shutil.copy(EMBEDDED_WEIGHTS, folder))
        settings = {"DIGITS_WEIGHTS": str(weights)}
        with running(service(), "/livez", settings) as server:
            _wait(lambda: len(server.processes()) == 3)
            with Clients(server).posting() as clients:
                drill(server, weights)
                time.sleep(0.3)
            return clients


def _other_version(content: bytes) -> bytes:
    """Return the same weights with another digest, by padding the header."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    return (length + 8).to_bytes(8, "little") + header + b" " * 8 + data


def _is_running(pid: int) -> bool:
    # a child that has exited remains a zombie until it is waited for
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] != "Z"


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the expected state was not reached within 30 s")
        time.sleep(0.02)


def main() -> None:
    """Run all drills and print the requests answered and lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    print(f"{runs} runs each, {N_CLIENTS} clients over keep-alive connections; requests:")
    for drill, limit in DRILLS.items():
        results = [run(drill) for _ in range(runs)]
        lost = [clients.lost for clients in results]
        causes = {cause for clients in results for cause in clients.causes}
        print(
            f"{drill.__name__:<8}{sum(c.answered for c in results):>9,} answered"
            f"{sum(lost):>5} lost, at most {max(lost)} in a run (limit {limit})",
            *sorted(causes),
        )


if __name__ == "__main__":
    main()
