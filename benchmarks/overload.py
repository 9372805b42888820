"""Behaviour of the service under abandoned forms, many forms, costly pictures, half requests.

python -m benchmarks.overload

Prints each figure with its limit, and exits with status 1 if one exceeds it.
"""

import contextlib
import http.client
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from benchmarks.hostile import SIGNATURE, chunk
from benchmarks.hostile_costs import EMPTY_BLOCKS
from benchmarks.servers import FORM, FORM_BOUNDARY, Server, predict, running, service
from benchmarks.uploads import png
from training.data.synthetic import draw_digits

N_PICTURES = 1_000  # in a form
N_ABANDONED, N_FORM_CLIENTS, N_HALF = 40, 8, 20_000
SECONDS = 20  # in which drawn pictures are posted beside forms
HALF_BYTES = 4_000  # of each half request
N_COSTLY_CLIENTS = 2
# limits in s, but the last one in MB
MAX_IDLE_AFTER, MAX_P99, MAX_P99_COSTLY, MAX_MEGABYTES = 2.0, 1.0, 1.5, 300.0
# seconds between two readings of the CPU time; the most CPU seconds of an idle service
CPU_STEP, IDLE = 0.25, 0.03
OTHER_FILES = 200  # descriptors of this process besides the half requests


class Figure(NamedTuple):
    """A measured value and its limit."""

    name: str
    value: float
    most: float
    unit: str


def picture(scale: int) -> bytes:
    """Return a PNG of a digit of 28 x 28 pixels, enlarged."""
    image = draw_digits(10, 10).test.images[0]
    return png(np.kron(image, np.ones((scale, scale), np.uint8)))


def large_form() -> bytes:
    """Return a form of N_PICTURES small pictures."""
    head = f'--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"'
    part = f"{head}\r\n\r\n".encode() + picture(2) + b"\r\n"
    return part * N_PICTURES + f"--{FORM_BOUNDARY}--\r\n".encode()


def request(body: bytes) -> bytes:
    """Return a request to classify the pictures of a form."""
    head = f"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Type: {FORM}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def connect(server: Server) -> socket.socket:
    """Open a connection."""
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=60)


def abandoned_forms(server: Server) -> Figure:
    """Post forms, close their connections, and measure when the CPU is idle."""
    message = request(large_form())
    with contextlib.ExitStack() as stack:
        for _ in range(N_ABANDONED):
            stack.enter_context(connect(server)).sendall(message)
    start = time.monotonic()
    used, before = CPU_STEP, server.cpu()
    while used > IDLE:
        time.sleep(CPU_STEP)
        used, before = server.cpu() - before, server.cpu()
    seconds = time.monotonic() - start - CPU_STEP
    return Figure(f"CPU idle after {N_ABANDONED} abandoned forms", seconds, MAX_IDLE_AFTER, "s")


def costly_picture() -> bytes:
    """Return a PNG of 25 megapixels whose data decompress to nothing for as long as allowed."""
    header = struct.pack(">IIBBBBB", 5_000, 5_000, 16, 6, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", EMPTY_BLOCKS[:-100]), chunk(b"IEND", b"")
    return SIGNATURE + b"".join(chunks)


@contextmanager
def posting(server: Server, n_clients: int, body: bytes, kind: str) -> Iterator[None]:
    """Post a body over and over from some clients in the background."""
    stopped = threading.Event()

    def post() -> None:
        while not stopped.is_set():
            client = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
            with contextlib.closing(client):
                client.request("POST", "/predict", body, {"Content-Type": kind})
                client.getresponse().read()

    threads = [threading.Thread(target=post) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def pictures_beside_forms(server: Server) -> Figure:
    """Post a drawn picture over and over beside the clients that post forms."""
    with posting(server, N_FORM_CLIENTS, large_form(), FORM):
        p99 = p99_of_drawn(server)
    return Figure(f"p99 beside {N_FORM_CLIENTS} clients with forms", p99, MAX_P99, "s")


def pictures_beside_costly_ones(server: Server) -> Figure:
    """Post a drawn picture over and over beside the clients that post costly ones."""
    with posting(server, N_COSTLY_CLIENTS, costly_picture(), "image/png"):
        p99 = p99_of_drawn(server)
    name = f"p99 beside {N_COSTLY_CLIENTS} clients with costly pictures"
    return Figure(name, p99, MAX_P99_COSTLY, "s")


def p99_of_drawn(server: Server) -> float:
    """Post a drawn picture over and over; return the 99th percentile of the seconds."""
    drawn, times = picture(10), []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        start = time.monotonic()
        predict(server, drawn, "image/png")
        times.append(time.monotonic() - start)
    return sorted(times)[int(0.99 * len(times))]


def half_requests(server: Server) -> Figure:
    """Hold half requests open, serve a normal client beside them, and measure memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = min(N_HALF, hard - OTHER_FILES)
    message = request(bytes(2 * HALF_BYTES))[:HALF_BYTES]
    n_closed = 0
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(n):
            clients.append(stack.enter_context(connect(server)))
            clients[-1].sendall(message)
        time.sleep(1)
        predict(server, picture(10), "image/png")
        megabytes = max(_peak(pid) for pid in server.processes()[1:])
        for client in clients:
            client.setblocking(False)
            try:
                n_closed += bool(client.recv(1))
            except BlockingIOError:
                pass  # neither refused nor timed out
            except ConnectionResetError:
                n_closed += 1
    name = f"peak memory of a worker with {n:,} half requests, {n_closed:,} refused or timed out"
    return Figure(name, megabytes, MAX_MEGABYTES, "MB")


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


# the number of workers of each drill
DRILLS: dict[Callable[[Server], Figure], str] = {
    abandoned_forms: "2",
    pictures_beside_forms: "2",
    pictures_beside_costly_ones: "2",
    half_requests: "1",
}


def main() -> None:
    """Run all drills and print their figures."""
    missed = False
    for drill, workers in DRILLS.items():
        with running(service(), "/readyz", {"WEB_CONCURRENCY": workers}) as server:
            time.sleep(1)  # in which the last worker starts
            name, value, most, unit = drill(server)
        missed |= value > most
        verdict = "MISSED" if value > most else "met"
        print(f"{name}: {value:.2f} {unit}, limit {most:g} {unit}: {verdict}", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
