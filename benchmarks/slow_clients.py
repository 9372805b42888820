"""Latency of a normal client while 256 slow clients are connected.

python -m benchmarks.slow_clients [--rounds 5] [--others]

--others: also measure gunicorn's own workers.
"""

import argparse
import asyncio
import contextlib
import functools
import importlib.util
import itertools
import statistics
import sys
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.rounds import spread
from benchmarks.servers import FORM, OWN, form, running, service
from benchmarks.uploads import png, test_images

N_SLOW, SECONDS, IDLE_SECONDS, TIMEOUT = 256, 14.0, 5.0, 5.0


@functools.cache
def request() -> tuple[bytes, bytes]:
    """Return the header and the body of a valid request."""
    body = form(png(test_images(1)[0]))
    header = (
        "POST /predict HTTP/1.1\r\nHost: digits\r\nConnection: close\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return header.encode(), body


def kinds() -> dict[str, tuple[bytes, bytes]]:
    """Return the first bytes of each kind of slow client, and those it sends every 2 s."""
    header, body = request()
    return {
        "nothing": (b"", b""),
        "half a header": (header[:60], b""),
        "half a body": (header + body[: len(body) // 2], b""),
        "a byte every 2 s": (b"", header + body),
    }


class Result(NamedTuple):
    """What the normal client and the slow clients of one run experienced."""

    times: list[float]  # ms, of the normal client while the slow ones are connected
    idle_times: list[float]  # ms, of the normal client alone
    n_failed: int  # requests of the normal client while the slow ones are connected
    lifetimes: list[float]  # s, of slow connections that the server closed


def measure(workers: list[str], rounds: int) -> None:
    """Run every worker with every kind of slow client; print one row for each pair."""
    results: dict[tuple[str, str], list[Result]] = {}
    for _ in range(rounds):
        for worker, (kind, (at_once, dripping)) in itertools.product(workers, kinds().items()):
            with running(service("--worker-class", worker), "/livez") as server:
                port = urlsplit(server.url).port or 0
                result = asyncio.run(_run(port, at_once, dripping))
                results.setdefault((worker, kind), []).append(result)
    print(f"a normal client and {N_SLOW} slow ones, {rounds} interleaved rounds; ms")
    for (worker, kind), runs in results.items():
        print(f"{worker.rpartition('.')[2]:<18}{kind:<18}{_summary(runs)}", flush=True)


def _summary(runs: list[Result]) -> str:
    n_answered = sum(len(run.times) for run in runs)
    n_failed = sum(run.n_failed for run in runs)
    lifetimes = [seconds for run in runs for seconds in run.lifetimes]
    closed = f"closed within {max(lifetimes):.1f} s" if lifetimes else "never closed"
    counts = f"{n_answered} answered, {n_failed} failed; slow connections {closed}"
    if not all(run.times for run in runs):
        return counts
    p50 = spread((statistics.median(run.times) for run in runs), ".1f")
    p99 = spread((_p99(run.times) for run in runs), ".1f")
    ratio = spread((_p99(run.times) / _p99(run.idle_times) for run in runs), ".1f")
    return f"p50 {p50}, p99 {p99}, p99 / p99 alone {ratio}; {counts}"


async def _run(port: int, at_once: bytes, dripping: bytes) -> Result:
    lifetimes: list[float] = []
    idle_times, _ = await _be_normal(port, time.monotonic() + IDLE_SECONDS)
    end = time.monotonic() + SECONDS
    slow = [
        asyncio.create_task(_be_slow(port, at_once, dripping, end, lifetimes))
        for _ in range(N_SLOW)
    ]
    await asyncio.sleep(1)
    times, n_failed = await _be_normal(port, end)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    return Result(times, idle_times, n_failed, lifetimes)


def _p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


async def _be_normal(port: int, end: float) -> tuple[list[float], int]:
    """Post one picture after another; return the latencies in ms and the failures."""
    times, failed = [], 0
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            await asyncio.wait_for(_post(port), TIMEOUT)
            times.append((time.monotonic() - start) * 1e3)
        except (OSError, ValueError, TimeoutError):
            failed += 1
        await asyncio.sleep(0.02)
    return times, failed


async def _be_slow(
    port: int, at_once: bytes, dripping: bytes, end: float, lifetimes: list[float]
) -> None:
    """Hold a connection; when it is closed, record its lifetime and reconnect."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            start = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            drip = asyncio.create_task(_drip(writer, at_once, dripping))
            try:
                while await reader.read(4096):
                    pass
                lifetimes.append(time.monotonic() - start)
            finally:
                drip.cancel()
                writer.close()


async def _drip(writer: asyncio.StreamWriter, at_once: bytes, dripping: bytes) -> None:
    writer.write(at_once)
    for byte in dripping:
        writer.write(bytes([byte]))
        await asyncio.sleep(2)


async def _post(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"".join(request()))
        reply = await reader.read()
        if not reply.startswith(b"HTTP/1.1 200"):
            raise ValueError(reply[:80])
    finally:
        writer.close()


def main() -> None:
    """Parse the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--others", action="store_true")
    options = parser.parse_args()
    workers = [OWN]
    if options.others:
        workers += ["gthread", "gevent"]
        if not importlib.util.find_spec("gevent"):
            sys.exit("gevent is not installed: pip install gevent")
    measure(workers, options.rounds)


if __name__ == "__main__":
    main()
