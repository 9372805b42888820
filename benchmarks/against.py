"""Throughput and CPU of the service, compared with another revision of it.

python -m benchmarks.against REVISION [--rounds 7] [--seconds 3]

Both run at the same time with this interpreter's packages, each with the settings of
its own service/gunicorn.conf.py.
"""

import argparse
import asyncio
import itertools
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks import servers
from benchmarks.rounds import ratios, spread
from benchmarks.servers import FORM, Load, Server, form, running, service
from benchmarks.uploads import png, test_images

N_UPLOADS, N_CHECKED, CONNECTIONS = 1_000, 20, 16
TOLERANCE = 1e-5  # of a probability
FIGURES = {"requests/s": "rate", "CPU, µs per request": "cpu"}


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Check a revision out into a temporary git worktree, removed after the block."""
    git = ("git", "-C", str(servers.ROOT), "worktree")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        try:
            add = [*git, "add", "--quiet", "--detach", str(tree), revision]
            if subprocess.run(add).returncode:
                sys.exit(f"git cannot check out {revision}; name a commit, branch or tag")
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], capture_output=True)


def check(ours: Server, other: Server, bodies: list[bytes]) -> None:
    """Exit if the two servers answer the same picture differently."""
    for body in bodies:
        our, their = servers.predict(ours, body), servers.predict(other, body)
        p, q = our["probabilities"], their["probabilities"]
        if our["digit"] != their["digit"] or not np.allclose(p, q, 0, TOLERANCE):
            sys.exit(f"the answers differ: {our} and {their}")


async def load_in_python(server: Server, bodies: list[bytes], seconds: float) -> Load:
    """Load a server without wrk; this client is slow and may limit the rate."""
    address, before = urlsplit(server.url), server.cpu()
    queue, end = itertools.cycle(bodies), time.monotonic() + seconds
    head = f"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Type: {FORM}\r\n"

    async def post() -> int:
        n = 0
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while time.monotonic() < end:
            body = next(queue)
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            reply = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", reply)
            if not reply.startswith(b"HTTP/1.1 200 ") or not length:
                sys.exit(f"unexpected reply from {server.url}: {reply!r}")
            await reader.readexactly(int(length[1]))
            n += 1
        writer.close()
        return n

    n = sum(await asyncio.gather(*(post() for _ in range(CONNECTIONS))))
    cpu = 1e6 * (server.cpu() - before) / n
    return Load(n / seconds, math.nan, math.nan, n, errors=0, cpu=cpu)


def measure(revision: str, rounds: int, seconds: float) -> None:
    """Print both figures of each round, then the medians of their ratios."""
    bodies = [form(png(image)) for image in test_images(N_UPLOADS)]
    with (
        tempfile.TemporaryDirectory() as folder,
        checkout(revision) as tree,
        running(service(), "/readyz") as ours,
        running(service(tree=tree), "/readyz", tree=tree) as other,
    ):
        check(ours, other, bodies[:N_CHECKED])
        path = servers.write_bodies(Path(folder) / "bodies.lua", bodies)
        results: dict[Server, list[Load]] = {ours: [], other: []}
        print(f"this tree / {revision}, {CONNECTIONS} connections")
        for n in range(rounds):
            # the order alternates, so that neither server always runs first
            for server in (ours, other) if n % 2 else (other, ours):
                if shutil.which("wrk"):
                    load = servers.load(server, path, CONNECTIONS, seconds)
                else:
                    load = asyncio.run(load_in_python(server, bodies, seconds))
                if load.errors:
                    sys.exit(f"{load.errors} errors from {server.url}")
                results[server].append(load)
            for name, field in FIGURES.items():
                our, their = (getattr(loads[-1], field) for loads in results.values())
                ratio = f"{our:,.0f} / {their:,.0f} = {our / their:.3f}"
                print(f"round {n + 1}: {name:<24}{ratio}", flush=True)
    for name, field in FIGURES.items():
        pairs = ([getattr(load, field) for load in loads] for loads in results.values())
        print(f"{name}, median ratio (range): {spread(ratios(*pairs), '.3f')}")


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("revision", help="commit, branch or tag to compare with")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    options = parser.parse_args()
    measure(options.revision, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
