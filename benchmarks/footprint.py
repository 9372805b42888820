"""Startup time and memory of the service, compared with an empty application.

python -m benchmarks.footprint [--requests 200000]
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.rounds import ratios, spread
from benchmarks.servers import ROOT, Server, form, gunicorn, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

N_UPLOADS, N_STARTS = 1_000, 7
EMPTY, SERVICE = "an empty application on gthread", "the service"
PICTURE = ROOT / "docs" / "digit.png"


def measure(n_requests: int) -> None:
    """Print the seconds to the first response, then the memory under load."""
    commands = {EMPTY: gunicorn("empty:no_op", "gthread"), SERVICE: service()}
    starts: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(N_STARTS):
        for name, command in commands.items():
            begin = time.monotonic()
            with running(command, "/readyz"):
                starts[name].append(time.monotonic() - begin)
    print(f"time to the first response, median (range) of {N_STARTS} interleaved, s:")
    for name, times in starts.items():
        print(f"  {name}: {spread(times)}")
    print(f"  ratio: {spread(ratios(starts[SERVICE], starts[EMPTY]))}")
    uploads = [form(png(image)) for image in test_images(N_UPLOADS)]
    with tempfile.TemporaryDirectory() as folder:
        mnist = write_bodies(Path(folder) / "mnist.lua", uploads)
        drawn = write_bodies(Path(folder) / "drawn.lua", [form(PICTURE.read_bytes())])
        for name, command in commands.items():
            with running(command) as server:
                print(f"{name}, PSS of the main process and two workers, MB:")
                _print_memory(server, mnist, n_requests)
                if name == SERVICE:
                    load(server, drawn, 16, 3)
                    print(f"  after 3 s of 280x280 drawings{server.pss():>12.1f}")


def _print_memory(server: Server, bodies: Path, n_requests: int) -> None:
    done = errors = 0
    while done < n_requests:
        for connections in (16, 64):
            result = load(server, bodies, connections, 2)
            done, errors = done + result.requests, errors + result.errors
        print(f"  after {done:>9,} requests{server.pss():>12.1f}, {errors} errors")


def main() -> None:
    """Parse the flag and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    measure(parser.parse_args().requests)


if __name__ == "__main__":
    main()
