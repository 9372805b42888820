"""Latency and memory of the service while people send a mix of pictures.

python -m benchmarks.steadiness [--rounds 5] [--seconds 4] [--requests 5000]

The load generator posts the mix of benchmarks.everyday.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.everyday import mix
from benchmarks.rounds import ratios, spread
from benchmarks.servers import Load, Server, form, load, running, service, write_bodies
from benchmarks.uploads import png, test_images

N_MIX, N_MNIST = 200, 1_000
N_CLIENTS = 8  # that send the mix beside one that sends MNIST PNGs
CONNECTIONS, SECONDS = 16, 4  # of each run for the memory


def measure(rounds: int, seconds: float, n_requests: int) -> None:
    """Print the latency of an MNIST PNG beside the mix, then the memory under the mix."""
    with tempfile.TemporaryDirectory() as folder, running(service(), "/readyz") as server:
        mixed = write_bodies(Path(folder) / "mix.lua", [form(each) for each in mix(N_MIX)])
        uploads = [form(png(image)) for image in test_images(N_MNIST)]
        mnist = write_bodies(Path(folder) / "mnist.lua", uploads)
        _print_latency(server, mnist, mixed, rounds, seconds)
        _print_memory(server, mixed, n_requests)


def _print_latency(server: Server, mnist: Path, mixed: Path, rounds: int, seconds: float) -> None:
    quiet: list[Load] = []
    beside: list[Load] = []
    with ThreadPoolExecutor() as pool:
        for _ in range(rounds):
            quiet.append(load(server, mnist, 1, seconds))
            background = pool.submit(load, server, mixed, N_CLIENTS, seconds + 2)
            beside.append(load(server, mnist, 1, seconds))
            background.result()
    print(f"latency of an MNIST PNG, one client, {rounds} interleaved rounds of {seconds:g} s, ms")
    print(f"{'':<32}{'p50':<24}p99")
    results = {"quiet": quiet, f"beside {N_CLIENTS} clients of the mix": beside}
    for name, loads in results.items():
        cells = (spread((getattr(each, p) for each in loads), ".1f") for p in ("p50", "p99"))
        print(f"{name:<32}" + "".join(f"{cell:<24}" for cell in cells))
    both = ([each.p99 for each in loads] for loads in (beside, quiet))
    print(f"{'p99, beside / quiet':<56}{spread(ratios(*both), '.1f')}")


def _print_memory(server: Server, mixed: Path, n_requests: int) -> None:
    print("\nPSS of the main process and two workers under the mix, MB")
    done = errors = 0
    while done < n_requests:
        result = load(server, mixed, CONNECTIONS, SECONDS)
        done, errors = done + result.requests, errors + result.errors
        print(f"after {done:>8,} requests{server.pss():>10.1f}, {errors} errors", flush=True)


def main() -> None:
    """Parse the flags and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steadiness")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each run")
    parser.add_argument("--requests", type=int, default=5_000, help="of the mix, for the memory")
    options = parser.parse_args()
    measure(options.rounds, options.seconds, options.requests)


if __name__ == "__main__":
    main()
