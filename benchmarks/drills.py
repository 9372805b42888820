"""Drills: what 16 clients lose while the service is stopped, renewed, hurt, changed.

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
    """Clients that post one picture after another over kept-alive connections."""

    def __init__(self, server: Server) -> None:
        self.address = urlsplit(server.url).netloc
        self.answered = self.lost = 0
        self.causes: set[str] = set()
        self.is_over = threading.Event()
        self._body = png(draw_digits(10, 10).test.images[0])
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._post) for _ in range(N_CLIENTS)]

    @contextmanager
    def posting(self) -> Iterator["Clients"]:
        """Post in the background, from half a second before to the end of the block."""
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        try:
            yield self
        finally:
            self.is_over.set()
            for thread in self._threads:
                thread.join()

    def _post(self) -> None:
        client = http.client.HTTPConnection(self.address, timeout=30)
        headers = {"Content-Type": "image/png"}
        while not self.is_over.is_set():
            with contextlib.closing(client):
                try:
                    client.connect()
                except OSError:
                    time.sleep(0.01)  # nobody listens: nothing that could be lost
                    continue
                try:
                    is_kept = True
                    while is_kept and not self.is_over.is_set():
                        client.request("POST", "/predict", self._body, headers)
                        reply = client.getresponse()
                        reply.read()
                        is_kept = not reply.will_close
                        self._note(None if reply.status == 200 else str(reply.status))
                except (OSError, http.client.HTTPException) as error:
                    self._note(repr(error))

    def _note(self, cause: str | None) -> None:
        with self._lock:
            self.answered += cause is None
            if cause:
                self.lost += 1
                self.causes.add(cause)


def stop(server: Server, weights: Path) -> None:
    """Stop the service by SIGTERM."""
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while _is_running(server.pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def renew(server: Server, weights: Path) -> None:
    """Replace all workers by SIGHUP."""
    before = set(server.processes()[1:])
    os.kill(server.pid, signal.SIGHUP)
    _wait(lambda: not before & set(server.processes()[1:]))


def swap(server: Server, weights: Path) -> None:
    """Replace the file of weights by another version, five times in a row."""
    content = weights.read_bytes()
    for _ in range(5):
        # an empty chunk of the header's padding makes another version
        content = _other_version(content)
        part = weights.with_name("part")
        part.write_bytes(content)
        part.replace(weights)
        time.sleep(0.4)


def kill(server: Server, weights: Path) -> None:
    """Kill one of two workers."""
    victim = server.processes()[1]
    os.kill(victim, signal.SIGKILL)
    _wait(lambda: len(server.processes()) == 3 and victim not in server.processes())


def idle(server: Server, weights: Path) -> None:
    """Open 2,000 connections that send nothing, and hold them for three seconds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = urlsplit(server.url).netloc.partition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(N_IDLE):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        time.sleep(3)


# the drill, and the most that its clients may lose in a run
DRILLS: dict[Callable[[Server, Path], None], int] = {
    stop: 0,
    renew: 0,
    swap: 0,
    kill: N_CLIENTS,  # the requests that the worker held, one of each client at most
    idle: 0,
}


def run(drill: Callable[[Server, Path], None]) -> Clients:
    """Hold one drill, on a service of its own."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(shutil.copy(EMBEDDED_WEIGHTS, folder))
        with running(service(), "/livez", DIGITS_WEIGHTS=str(weights)) as server:
            _wait(lambda: len(server.processes()) == 3)
            with Clients(server).posting() as clients:
                drill(server, weights)
                time.sleep(0.3)
            return clients


def _other_version(content: bytes) -> bytes:
    """Give the same weights with another digest: one more blank after the header."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    return (length + 8).to_bytes(8, "little") + header + b" " * 8 + data


def _is_running(pid: int) -> bool:
    # a child that has ended and was not waited for is a zombie
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] != "Z"


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("not so within 30 s")
        time.sleep(0.02)


def main() -> None:
    """Hold all drills, and print what was answered and lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    print(f"{runs} runs each, {N_CLIENTS} clients over kept-alive connections")
    for drill, most in DRILLS.items():
        results = [run(drill) for _ in range(runs)]
        lost = [clients.lost for clients in results]
        causes = set().union(*(clients.causes for clients in results))
        print(
            f"{drill.__name__:<8}{sum(c.answered for c in results):>9,} answered"
            f"{sum(lost):>5} lost, {max(lost)} at most in a run (allowed: {most})",
            *sorted(causes),
        )


if __name__ == "__main__":
    main()
