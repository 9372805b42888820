"""Memory of the service over many requests, the good and the bad of them mixed.

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

from benchmarks.hostile import CORPUS, damaged, requests
from benchmarks.servers import FORM, ROOT, form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

N_GOOD, N_DRAWN, CONNECTIONS, SECONDS = 2_000, 40, 16, 4
WARM = 0.2  # of the requests: until then, caches and pools fill
PICTURE = (ROOT / "docs" / "digit.png").read_bytes()


def measure(n_requests: int) -> None:
    """Print the memory as the requests go by, and how much it varies."""
    uploads = [png(image) for image in test_images(N_GOOD)] + [PICTURE] * N_DRAWN
    bad = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    bad += [content for _, content in damaged()]
    random.Random(0).shuffle(uploads := uploads + bad)
    print(f"{len(bad)} hostile files to {N_GOOD + N_DRAWN} digits; strange HTTP beside")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(service(), "/readyz") as server,
    ):
        bodies = write_bodies(Path(folder) / "mixed.lua", [form(u) for u in uploads])
        before = server.processes()
        stranger = Stranger(server.url)
        done, megabytes = 0, []
        while done < n_requests:
            result = load(f"{server.url}/predict", bodies, FORM, CONNECTIONS, SECONDS)
            done += result.requests
            if done >= WARM * n_requests:
                megabytes.append(server.pss())
            print(f"  after {done:>9,} requests{server.pss():>10.1f} MB", flush=True)
        stranger.end()
        lost = len(set(before) - set(server.processes()))
    spread = (max(megabytes) - min(megabytes)) / 2
    print(
        f"± {spread:.1f} MB from {WARM:.0%} of them on; {stranger.n:,} strange "
        f"requests beside, {stranger.n_failed} of them failed; {lost} workers lost"
    )


class Stranger:
    """Sends what is hardly HTTP, over and over, until it is ended."""

    def __init__(self, url: str) -> None:
        host, _, port = urlsplit(url).netloc.partition(":")
        self.address = host, int(port)
        self.n = self.n_failed = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def end(self) -> None:
        """Send no more."""
        self._is_over.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._is_over.is_set():
            for _, message in requests():
                with contextlib.suppress(ConnectionResetError):
                    self._send_one(message)
                if self._is_over.wait(0.005):
                    return

    def _send_one(self, message: bytes) -> None:
        with socket.create_connection(self.address, timeout=20) as client:
            client.sendall(message)
            status = client.makefile("rb").readline()[9:12]
        self.n += 1
        self.n_failed += status[:1] not in (b"2", b"4")


def main() -> None:
    """Read the flag, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    measure(parser.parse_args().requests)


if __name__ == "__main__":
    main()
