"""What 256 slow clients do to a normal one.

python -m benchmarks.slow_clients [--others]: under gunicorn's own workers too
"""

import argparse
import asyncio
import contextlib
import importlib.util
import statistics
import sys
import time
from urllib.parse import urlsplit

from benchmarks.servers import FORM, OWN, form, running, service
from benchmarks.uploads import png, test_images

N_SLOW, SECONDS, QUIET_SECONDS, TIMEOUT = 256, 14.0, 5.0, 5.0
BODY = form(png(test_images(1)[0]))
HEAD = (
    "POST /predict HTTP/1.1\r\nHost: digits\r\nConnection: close\r\n"
    f"Content-Type: {FORM}\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode()
# what each kind sends at once, and what it sends byte by byte, one every 2 s
KINDS = {
    "silent": (b"", b""),
    "half a head": (HEAD[:60], b""),
    "half a body": (HEAD + BODY[: len(BODY) // 2], b""),
    "a byte every 2 s": (b"", HEAD + BODY),
}


def measure(workers: list[str]) -> None:
    """Print, for each worker and kind, what the normal client got."""
    for worker in workers:
        name = worker.rpartition(".")[2]
        for kind, (at_once, dripping) in KINDS.items():
            with running(service("--worker-class", worker), "/livez") as server:
                port = urlsplit(server.url).port or 0
                print(
                    f"{name:<18}{kind:<18}",
                    asyncio.run(_try(port, at_once, dripping)),
                    flush=True,
                )


async def _try(port: int, at_once: bytes, dripping: bytes) -> str:
    lives: list[float] = []
    quiet, _ = await _be_normal(port, time.monotonic() + QUIET_SECONDS)
    end = time.monotonic() + SECONDS
    slow = [
        asyncio.create_task(_be_slow(port, at_once, dripping, end, lives))
        for _ in range(N_SLOW)
    ]
    await asyncio.sleep(1)
    times, failed = await _be_normal(port, end)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    cut = f"cut after {max(lives):4.1f} s at most" if lives else "none cut"
    if not times:
        return f"answered 0, failed {failed}; {cut}"
    p50, p99 = statistics.median(times), _p99(times)
    spread = f"p50 {p50:.1f}, p99 {p99:.1f} ms ({p99 / _p99(quiet):.1f} of its quiet)"
    return f"answered {len(times)}, failed {failed}, {spread}; {cut}"


def _p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


async def _be_normal(port: int, end: float) -> tuple[list[float], int]:
    """Post one picture after another; give the milliseconds, and how many failed."""
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
    port: int, at_once: bytes, dripping: bytes, end: float, lives: list[float]
) -> None:
    """Hold a connection; when it is cut, note how long it has lived, and come back."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            start = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            drip = asyncio.create_task(_drip(writer, at_once, dripping))
            try:
                while await reader.read(4096):
                    pass
                lives.append(time.monotonic() - start)
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
        writer.write(HEAD + BODY)
        reply = await reader.read()
        if not reply.startswith(b"HTTP/1.1 200"):
            raise ValueError(reply[:80])
    finally:
        writer.close()


def main() -> None:
    """Read the flag, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--others", action="store_true")
    workers = [OWN]
    if parser.parse_args().others:
        workers += ["gthread", "gevent"]
        if not importlib.util.find_spec("gevent"):
            sys.exit("gevent is not installed: pip install gevent")
    measure(workers)


if __name__ == "__main__":
    main()
