"""Start and memory of the service, beside an empty gunicorn.

python -m benchmarks.footprint [--requests 200000]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.servers import (
    FORM,
    ROOT,
    Server,
    form,
    gunicorn,
    load,
    running,
    service,
    write_bodies,
)
from benchmarks.uploads import png, test_images

N_UPLOADS, N_STARTS = 1_000, 7
PICTURE = (ROOT / "docs" / "digit.png").read_bytes()


def measure(n_requests: int) -> None:
    """Print both, beside an empty gunicorn's."""
    commands = {
        "an empty gunicorn": gunicorn("empty:no_op", "gthread"),
        "the service": service(),
    }
    starts: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(N_STARTS):
        for name, command in commands.items():
            begin = time.monotonic()
            with running(command, "/readyz"):
                starts[name].append(time.monotonic() - begin)
    empty, ours = (statistics.median(times) for times in starts.values())
    print(f"start to the first answer: {ours:.2f} s, {ours / empty:.2f} of {empty:.2f}")
    uploads = [form(png(image)) for image in test_images(N_UPLOADS)]
    with tempfile.TemporaryDirectory() as folder:
        small = write_bodies(Path(folder) / "small.lua", uploads)
        drawn = write_bodies(Path(folder) / "drawn.lua", [form(PICTURE)])
        for name, command in commands.items():
            with running(command) as server:
                print(f"{name}, PSS of master and two workers:")
                _watch(server, small, n_requests)
                if name == "the service":
                    load(f"{server.url}/predict", drawn, FORM, 16, 3)
                    print(f"  after pictures of 280 x 280{server.pss():>12.1f} MB")


def _watch(server: Server, bodies: Path, n_requests: int) -> None:
    done = errors = 0
    while done < n_requests:
        for connections in (16, 64):
            result = load(f"{server.url}/predict", bodies, FORM, connections, 2)
            done, errors = done + result.requests, errors + result.errors
        print(f"  after {done:>9,} requests{server.pss():>12.1f} MB, {errors} errors")


def main() -> None:
    """Read the flag, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    measure(parser.parse_args().requests)


if __name__ == "__main__":
    main()
