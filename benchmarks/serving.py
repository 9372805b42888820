"""Throughput and latency of the service beside an empty server, tutorials and peers.

python -m benchmarks.serving [--plot docs/throughput.png]
"""

import argparse
import json
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.servers import (
    FORM,
    OWN,
    ROOT,
    Load,
    Server,
    form,
    gunicorn,
    load,
    running,
    service,
    write_bodies,
)
from benchmarks.uploads import png, test_images
from service.classifier import load as load_classifier
from service.settings import EMBEDDED_WEIGHTS

CONNECTIONS = (1, 4, 16, 64)
SOME, MANY = 16, 64
N_UPLOADS, N_CHECKED = 1_000, 20
PEERS_BIN = ROOT / ".venv-peers" / "bin"
BENTOML_HOME = str(Path(tempfile.gettempdir()) / "digits-bentoml")


class Row(NamedTuple):
    """A server to measure, and how it is asked."""

    name: str
    command: list[str]
    is_raw: bool = False
    has_model: bool = True
    settings: Mapping[str, str] = {}


DIGITS, EMPTY = "digits", "empty"
BLUE, LABEL_HEIGHT = "#3b5b92", 1.17
ROWS = [
    Row(DIGITS, service()),
    Row("digits, picture as the body", service(), is_raw=True),
    Row(EMPTY, gunicorn("empty:no_op", OWN), has_model=False),
    Row("empty, on gthread", gunicorn("empty:no_op", "gthread"), has_model=False),
    Row("digits, on gthread", service("--worker-class", "gthread")),
    Row("Flask, Pillow, numpy", gunicorn("references:with_numpy()", "gthread")),
    Row("Flask, torch", gunicorn("references:with_torch()", "gthread")),
]
PEERS = [
    Row("LitServe", [str(PEERS_BIN / "python"), "-m", "benchmarks.peers.lit"]),
    Row(
        "BentoML",
        [
            *(str(PEERS_BIN / "bentoml"), "serve", "benchmarks.peers.bento:Digits"),
            *("--host", "127.0.0.1", "--port", "$PORT"),
        ],
        # it would call home, and write into the user's
        settings={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": BENTOML_HOME},
    ),
]


def measure(rounds: int, seconds: float, plot: Path | None) -> None:
    """Print the table of all servers, and the ratios that are claimed."""
    images = test_images(N_UPLOADS)
    uploads = [png(image) for image in images]
    rows = ROWS + (PEERS if PEERS_BIN.exists() else [])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bodies = {
            False: write_bodies(Path(folder) / "forms.lua", [form(u) for u in uploads]),
            True: write_bodies(Path(folder) / "pictures.lua", uploads),
        }
        servers = [
            stack.enter_context(running(row.command, **row.settings)) for row in rows
        ]
        for row, server in zip(rows, servers, strict=True):
            if row.has_model:
                _check(row, server, uploads, images)
        loads: dict[tuple[str, int], list[Load]] = {}
        costs: dict[str, list[float]] = {}
        for n in range(rounds * len(CONNECTIONS)):
            connections = CONNECTIONS[n % len(CONNECTIONS)]
            for row, server in zip(rows, servers, strict=True):
                before = server.cpu()
                kind = "image/png" if row.is_raw else FORM
                url = f"{server.url}/predict"
                result = load(url, bodies[row.is_raw], kind, connections, seconds)
                loads.setdefault((row.name, connections), []).append(result)
                if connections == MANY:
                    cost = (server.cpu() - before) / max(result.requests, 1)
                    costs.setdefault(row.name, []).append(cost)
    rates = {key: _median(results, "rate") for key, results in loads.items()}
    names = [row.name for row in rows]
    _print_table(names, rates, loads, costs)
    _print_ratios(names, rates, loads)
    if plot:
        _draw(names, rates, plot)


def _check(
    row: Row, server: Server, uploads: list[bytes], images: npt.NDArray[np.uint8]
) -> None:
    """Make sure that a server answers with the model's own probabilities."""
    expected = load_classifier(EMBEDDED_WEIGHTS).predict_proba(images[:N_CHECKED])
    for upload, probabilities in zip(uploads, expected, strict=False):
        request = urllib.request.Request(
            f"{server.url}/predict",
            data=upload if row.is_raw else form(upload),
            headers={"Content-Type": "image/png" if row.is_raw else FORM},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer = json.load(reply)["probabilities"]
        if not np.allclose(answer, probabilities, rtol=1e-3, atol=1e-6):
            sys.exit(f"{row.name} answers {answer}, expected {probabilities.tolist()}")


def _median(loads: list[Load], field: str) -> float:
    return statistics.median(getattr(load, field) for load in loads)


def _print_table(
    names: list[str],
    rates: dict[tuple[str, int], float],
    loads: dict[tuple[str, int], list[Load]],
    costs: dict[str, list[float]],
) -> None:
    print("requests/s at 1, 4, 16, 64 connections; ms at 64; µs of CPU a request at 64")
    for name in names:
        cells = "".join(f"{rates[name, n]:>8,.0f}" for n in CONNECTIONS)
        p50, p99 = (_median(loads[name, MANY], field) for field in ("p50", "p99"))
        errors = sum(load.errors for n in CONNECTIONS for load in loads[name, n])
        print(
            f"{name:<28}{cells}   p50{p50:>7.1f}  p99{p99:>7.1f}"
            f"{statistics.median(costs[name]) * 1e6:>7.0f} µs  {errors} errors"
        )


def _print_ratios(
    names: list[str],
    rates: dict[tuple[str, int], float],
    loads: dict[tuple[str, int], list[Load]],
) -> None:
    print("digits' requests/s at 16 connections, over those of")
    for name in names:
        if name != DIGITS:
            print(f"  {name:<28}{rates[DIGITS, SOME] / rates[name, SOME]:>6.2f}")
    raw = rates["digits, picture as the body", SOME] / rates[EMPTY, SOME]
    print(f"  {'empty, of pictures as bodies':<28}{raw:>6.2f}")
    p99 = _median(loads[DIGITS, MANY], "p99") / _median(loads[EMPTY, MANY], "p99")
    print(f"digits' p99 at 64 connections, over that of empty{p99:>9.2f}")


def _draw(names: list[str], rates: dict[tuple[str, int], float], path: Path) -> None:
    """Draw throughput against connections, each line named where it ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    below = 0.0  # where the last label stands
    for name in sorted(names, key=lambda name: rates[name, MANY]):
        line = [rates[name, n] for n in CONNECTIONS]
        is_ours = name == DIGITS
        colour = "#0b6e4f" if DIGITS in name else "#9aa0a6" if EMPTY in name else BLUE
        style = "-" if is_ours or DIGITS not in name else ":"
        axes.plot(CONNECTIONS, line, style, color=colour, lw=3 if is_ours else 1.5)
        below = max(line[-1], below * LABEL_HEIGHT)
        axes.text(
            1.12 * MANY,
            below,
            name,
            va="center",
            color=colour,
            weight="bold" if is_ours else "normal",
            fontsize=9,
        )
    ticks = [500, 1_000, 2_000, 5_000, 10_000, 20_000]
    axes.set(xscale="log", yscale="log", xlabel="connections", xlim=(0.9, 300))
    axes.set_xticks(CONNECTIONS, map(str, CONNECTIONS))
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_title("requests a second, two workers on two cores", loc="left")
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read the flags, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each cell")
    parser.add_argument("--plot", type=Path, help="where to draw the table")
    options = parser.parse_args()
    measure(options.rounds, options.seconds, options.plot)


if __name__ == "__main__":
    main()
