"""What metrics, ids and safety headers cost: CPU a request, beside the service bare.

python -m benchmarks.overhead
"""

import statistics
import tempfile
from pathlib import Path

from benchmarks.servers import (
    FORM,
    Server,
    form,
    load,
    running,
    service,
    write_bodies,
)
from benchmarks.uploads import png, test_images

ROUNDS, SECONDS, N_UPLOADS, CONNECTIONS = 7, 3, 1_000, 16


def measure() -> None:
    """Print both, medians of interleaved rounds, and their ratio."""
    bare = service()
    bare[-1] = "benchmarks.bare:create_app()"
    uploads = [form(png(image)) for image in test_images(N_UPLOADS)]
    with tempfile.TemporaryDirectory() as folder:
        bodies = write_bodies(Path(folder) / "bodies.lua", uploads)
        with (
            running(service(), "/readyz") as watched,
            running(bare, "/readyz") as other,
        ):
            pairs = [
                (_cpu(watched, bodies), _cpu(other, bodies)) for _ in range(ROUNDS)
            ]
    ours, others = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(our / other for our, other in pairs)
    print(f"{ours:.0f} µs of CPU a request, bare {others:.0f}: {ratio - 1:+.1%}")


def _cpu(server: Server, bodies: Path) -> float:
    """Load a server; give the microseconds of CPU that each request took."""
    before = server.cpu()
    result = load(f"{server.url}/predict", bodies, FORM, CONNECTIONS, SECONDS)
    if result.errors:
        raise SystemExit(f"{result.errors} errors from {server.url}")
    return 1e6 * (server.cpu() - before) / result.requests


if __name__ == "__main__":
    measure()
