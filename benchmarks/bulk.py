"""Many images in one request beside one in each, and single requests beside bulk.

python -m benchmarks.bulk
"""

import io
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.servers import FORM, form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

N, CONNECTIONS, SECONDS, ROUNDS = 1_000, 4, 3, 3


def measure() -> None:
    """Print images/s of each way to post them, and what bulk does to single ones."""
    images = test_images(N)
    file = io.BytesIO()
    np.save(file, images)
    with tempfile.TemporaryDirectory() as folder, running(service()) as server:
        url = f"{server.url}/predict"

        def bodies(name: str, contents: list[bytes]) -> Path:
            return write_bodies(Path(folder) / name, contents)

        singles = bodies("singles.lua", [form(png(image)) for image in images])
        bulk = bodies("bulk.lua", [images.tobytes()])
        npy = bodies("npy.lua", [file.getvalue()])
        ways = {
            "one in each request": (singles, FORM, 1, 16),
            f"{N} as bytes": (bulk, "application/octet-stream", N, CONNECTIONS),
            f"{N} as .npy": (npy, "application/x-npy", N, CONNECTIONS),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (contents, kind, n, connections) in ways.items():
                result = load(url, contents, kind, connections, SECONDS)
                rates[name].append(result.rate * n)
        single, *_ = medians = [statistics.median(rate) for rate in rates.values()]
        for name, rate in zip(ways, medians, strict=True):
            print(f"{name:<22}{rate:>9,.0f} images/s{rate / single:>7.1f}")
        quiet, beside = [], []
        with ThreadPoolExecutor() as pool:
            for _ in range(ROUNDS):
                quiet.append(load(url, singles, FORM, CONNECTIONS, SECONDS))
                background = pool.submit(
                    load, url, bulk, "application/octet-stream", 2, SECONDS + 1
                )
                beside.append(load(url, singles, FORM, CONNECTIONS, SECONDS))
                background.result()
    for name, loads in (("alone", quiet), ("beside two of bulk", beside)):
        p50, p99 = (statistics.median(getattr(x, p) for x in loads) for p in PARTS)
        print(f"single requests {name:<19} p50{p50:>6.1f} ms  p99{p99:>6.1f} ms")


PARTS = ("p50", "p99")


if __name__ == "__main__":
    measure()
