"""Throughput of bulk requests and of `classify`, and the latency of single requests beside.

python -m benchmarks.bulk
"""

import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from benchmarks.rounds import ratios, spread
from benchmarks.servers import FORM, Load, Server, form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images
from service.features import Images

N, CONNECTIONS, SECONDS, ROUNDS = 1_000, 4, 3, 5
N_FILE, N_REQUEST = 100_000, 10_000  # images in a file, and in each request that posts it
POLL_SECONDS = 0.05
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
        _compare_classify(server, images, Path(folder))


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


def _compare_classify(server: Server, images: Images, folder: Path) -> None:
    """Classify a file of images by the command and over HTTP; print times and memory."""
    path = folder / "images.npy"
    np.save(path, images[np.arange(N_FILE) % len(images)])
    answers, posted = folder / "answers.csv", folder / "posted.csv"
    ways: dict[str, tuple[Callable[[], object], Callable[[], float]]] = {
        "classify": (lambda: _start(path, answers).wait(), _cpu_of_children),
        "one connection": (lambda: _post_file(server, path, posted, 1), server.cpu),
        f"{CONNECTIONS} connections": (
            lambda: _post_file(server, path, posted, CONNECTIONS),
            server.cpu,
        ),
    }
    elapsed: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (work, cpu) in ways.items():
            before, start = cpu() + time.process_time(), time.monotonic()
            work()
            elapsed[name].append(time.monotonic() - start)
            used[name].append(cpu() + time.process_time() - before)
    print(f"\n{N_FILE:,} images in a file: images/s and CPU, and those of classify to them")
    for name in ways:
        rate = spread((N_FILE / seconds for seconds in elapsed[name]), ",.0f")
        faster = spread(ratios(elapsed[name], elapsed["classify"]), ".1f")
        less = spread(ratios(used[name], used["classify"]), ".1f")
        print(f"{name:<22}{rate:<30}{faster:<22}{less}")
    assert answers.read_bytes() == posted.read_bytes()
    few = folder / "few.npy"
    np.save(few, np.load(path)[: N_FILE // 10])
    memory = ", ".join(f"{_most_memory(_start(file, answers)):.0f}" for file in (few, path))
    print(f"memory of classify for {N_FILE // 10:,} and {N_FILE:,} images: {memory} MB")


def _start(path: Path, answers: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service", "classify", str(path), "--output", str(answers)]
    return subprocess.Popen(command)


def _most_memory(process: subprocess.Popen[bytes]) -> float:
    """Return the largest proportional set size of a process and its children in MB."""
    most, family = 0.0, Server(process.pid, "")
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            most = max(most, family.pss())
        time.sleep(POLL_SECONDS)
    return most


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _post_file(server: Server, path: Path, answers: Path, n_connections: int) -> None:
    """Post a file of images in parts; write the answers as the command does."""
    images = np.load(path, mmap_mode="r")

    def rows(first: int) -> list[list[object]]:
        connection = HTTPConnection(server.url.removeprefix("http://"))
        body = images[first : first + N_REQUEST].tobytes()
        connection.request("POST", "/predict", body, {"Content-Type": BYTES})
        with connection.getresponse() as reply:
            predictions = json.load(reply)["predictions"]
        values = ([p["digit"], p["probability"], p["is_digit"], None] for p in predictions)
        return [[f"{path}[{i}]", *row] for i, row in enumerate(values, first)]

    with answers.open("w") as file, ThreadPoolExecutor(n_connections) as pool:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "digit", "probability", "is_digit", "error"])
        for part in pool.map(rows, range(0, len(images), N_REQUEST)):
            writer.writerows(part)


if __name__ == "__main__":
    measure()
