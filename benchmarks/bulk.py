"""Throughput of bulk requests, and their effect on the latency of single requests.

python -m benchmarks.bulk
"""

import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.rounds import ratios, spread
from benchmarks.servers import FORM, Load, Server, form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

N, CONNECTIONS, SECONDS, ROUNDS = 1_000, 4, 3, 5
BYTES = "application/octet-stream"


def measure() -> None:
    """Post the same images one by one and in bulk, and print both comparisons."""
    images = test_images(N)
    file = io.BytesIO()
    np.save(file, images)
    with tempfile.TemporaryDirectory() as folder, running(service()) as server:

        def bodies(name: str, contents: list[bytes]) -> Path:
            return write_bodies(Path(folder) / name, contents)

        singles = bodies("singles.lua", [form(png(image)) for image in images])
        bulk = bodies("bulk.lua", [images.tobytes()])
        npy = bodies("npy.lua", [file.getvalue()])
        _compare_throughput(server, singles, bulk, npy)
        _compare_latency(server, singles, bulk)


def _compare_throughput(server: Server, singles: Path, bulk: Path, npy: Path) -> None:
    ways = {
        "one PNG per request": (singles, FORM, 1, 16),
        f"{N} images as bytes": (bulk, BYTES, N, CONNECTIONS),
        f"{N} images as .npy": (npy, "application/x-npy", N, CONNECTIONS),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (contents, kind, n, connections) in ways.items():
            result = load(server, contents, connections, SECONDS, kind)
            rates[name].append(result.rate * n)
    print(f"medians (ranges) of {ROUNDS} interleaved rounds")
    print(f"{'':<22}{'images/s':<30}ratio to one PNG per request")
    single, *_ = rates.values()
    for name, rate in rates.items():
        ratio = spread(ratios(rate, single), ".1f")
        print(f"{name:<22}{spread(rate, ',.0f'):<30}{ratio}")


def _compare_latency(server: Server, singles: Path, bulk: Path) -> None:
    alone: list[Load] = []
    loaded: list[Load] = []
    with ThreadPoolExecutor() as pool:
        for _ in range(ROUNDS):
            alone.append(load(server, singles, CONNECTIONS, SECONDS))
            background = pool.submit(load, server, bulk, 2, SECONDS + 1, BYTES)
            loaded.append(load(server, singles, CONNECTIONS, SECONDS))
            background.result()
    print(f"\nlatency of single requests at {CONNECTIONS} connections, ms")
    print(f"{'':<34}{'p50':<24}p99")
    loads = {"alone": alone, "with bulk on 2 connections": loaded}
    for name, results in loads.items():
        p50 = spread((result.p50 for result in results), ".1f")
        p99 = spread((result.p99 for result in results), ".1f")
        print(f"{name:<34}{p50:<24}{p99}")


if __name__ == "__main__":
    measure()
