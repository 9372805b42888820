"""CPU cost of metrics, request ids and security headers.

python -m benchmarks.overhead
"""

import tempfile
from pathlib import Path

from benchmarks.rounds import ratios, spread
from benchmarks.servers import form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

ROUNDS, SECONDS, N_UPLOADS, CONNECTIONS = 7, 3, 1_000, 16


def measure() -> None:
    """Print the CPU per request with and without them, and the ratio."""
    bare = service()
    bare[-1] = "benchmarks.bare:create_app()"
    uploads = [form(png(image)) for image in test_images(N_UPLOADS)]
    cpu: dict[str, list[float]] = {"with": [], "without": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        running(service(), "/readyz") as complete,
        running(bare, "/readyz") as other,
    ):
        bodies = write_bodies(Path(folder) / "bodies.lua", uploads)
        for _ in range(ROUNDS):
            for name, server in zip(cpu, (complete, other), strict=True):
                result = load(server, bodies, CONNECTIONS, SECONDS)
                if result.errors:
                    raise SystemExit(f"{result.errors} errors from {server.url}")
                cpu[name].append(result.cpu)
    print(f"µs of CPU per request, median (range) of {ROUNDS} interleaved rounds:")
    for name, values in cpu.items():
        print(f"  {name} metrics, ids and headers: {spread(values, '.0f')}")
    print(f"  ratio: {spread(ratios(*cpu.values()), '.3f')}")


if __name__ == "__main__":
    measure()
