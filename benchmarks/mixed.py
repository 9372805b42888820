"""Memory of the service under a mix of valid pictures, hostile files and bad HTTP.

python -m benchmarks.mixed [--requests 200000]
"""

import argparse
import contextlib
import random
import socket
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.hostile import CORPUS, damaged
from benchmarks.hostile_requests import requests
from benchmarks.servers import ROOT, form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

N_MNIST, N_DRAWN, CONNECTIONS, SECONDS = 2_000, 40, 16, 4
WARM_UP = 0.2  # fraction of the requests before caches and pools are full
PICTURE = ROOT / "docs" / "digit.png"


def measure(n_requests: int) -> None:
    """Print the memory during the run, its range, and the failed requests."""
    uploads = [png(image) for image in test_images(N_MNIST)] + [PICTURE.read_bytes()] * N_DRAWN
    hostile = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    hostile += [content for _, content in damaged()]
    random.Random(0).shuffle(uploads := uploads + hostile)
    print(
        f"{len(hostile)} hostile files per {N_MNIST + N_DRAWN} digits, "
        "and malformed HTTP on another connection"
    )
    with tempfile.TemporaryDirectory() as folder, running(service(), "/readyz") as server:
        bodies = write_bodies(Path(folder) / "mixed.lua", [form(u) for u in uploads])
        before = server.processes()
        sender = HostileSender(server.url)
        done, megabytes = 0, []
        while done < n_requests:
            result = load(server, bodies, CONNECTIONS, SECONDS)
            done += result.requests
            if done >= WARM_UP * n_requests:
                megabytes.append(server.pss())
            print(f"  after {done:>9,} requests, PSS{server.pss():>10.1f} MB", flush=True)
        sender.stop()
        lost = len(set(before) - set(server.processes()))
    spread = (max(megabytes) - min(megabytes)) / 2
    print(
        f"PSS after the first {WARM_UP:.0%} of requests: ± {spread:.1f} MB; "
        f"{sender.n:,} malformed requests, {sender.n_failed} failed; "
        f"{lost} workers lost"
    )


class HostileSender:
    """Thread that sends malformed requests, over and over, until it is stopped."""

    def __init__(self, url: str) -> None:
        host, _, port = urlsplit(url).netloc.partition(":")
        self.address = host, int(port)
        self.n = self.n_failed = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stopped.is_set():
            for _, message in requests():
                with contextlib.suppress(ConnectionResetError):
                    self._send_one(message)
                if self._stopped.wait(0.005):
                    return

    def _send_one(self, message: bytes) -> None:
        with socket.create_connection(self.address, timeout=20) as client:
            client.sendall(message)
            status = client.makefile("rb").readline()[9:12]
        self.n += 1
        self.n_failed += status[:1] not in (b"2", b"4")


def main() -> None:
    """Parse the flag and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    measure(parser.parse_args().requests)


if __name__ == "__main__":
    main()
