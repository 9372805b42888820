"""Throughput, latency and CPU of the service, an empty application and its peers.

python -m benchmarks.serving [--rounds 5] [--seconds 2] [--plot docs/throughput.png]
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.rounds import ratios, spread
from benchmarks.servers import (
    FORM,
    OWN,
    PEERS_BIN,
    Load,
    Server,
    form,
    gunicorn,
    load,
    predict,
    running,
    service,
    write_bodies,
)
from benchmarks.uploads import png, test_images
from service.classifier import load as load_classifier
from service.settings import EMBEDDED_WEIGHTS

CONNECTIONS = (1, 4, 16, 64)
SOME, MANY = 16, 64
PNG = "image/png"
N_UPLOADS, N_CHECKED = 1_000, 20
BENTOML_HOME = str(Path(tempfile.gettempdir()) / "digits-bentoml")


class Row(NamedTuple):
    """A server to measure, and how pictures are posted to it."""

    name: str
    command: list[str]
    is_raw: bool = False
    has_model: bool = True
    settings: Mapping[str, str] = {}


DIGITS, RAW, EMPTY = "digits", "digits, picture as the body", "empty"
BLUE, LABEL_HEIGHT = "#3b5b92", 1.17
ROWS = [
    Row(DIGITS, service()),
    Row(RAW, service(), is_raw=True),
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
        # otherwise it reports usage and writes to the home directory
        settings={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": BENTOML_HOME},
    ),
]


Loads = dict[tuple[str, int], list[Load]]  # by name and connections


def measure(rounds: int, seconds: float, plot: Path | None) -> None:
    """Measure all servers in interleaved rounds; print the tables and draw the plot."""
    images = test_images(N_UPLOADS)
    uploads = [png(image) for image in images]
    rows = ROWS + (PEERS if PEERS_BIN.exists() else [])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bodies = {
            FORM: write_bodies(Path(folder) / "forms.lua", [form(u) for u in uploads]),
            PNG: write_bodies(Path(folder) / "pictures.lua", uploads),
        }
        servers = [stack.enter_context(running(row.command, settings=row.settings)) for row in rows]
        for row, server in zip(rows, servers, strict=True):
            if row.has_model:
                _check(row, server, uploads, images)
        loads: Loads = {(row.name, n): [] for row in rows for n in CONNECTIONS}
        for _, connections in itertools.product(range(rounds), CONNECTIONS):
            for row, server in zip(rows, servers, strict=True):
                kind = PNG if row.is_raw else FORM
                result = load(server, bodies[kind], connections, seconds, kind)
                loads[row.name, connections].append(result)
    names = [row.name for row in rows]
    print(f"medians (ranges) of {rounds} interleaved rounds of {seconds:g} s")
    _print_throughput(names, loads)
    _print_latency(names, loads)
    _print_ratios(names, loads)
    if plot:
        _draw(names, loads, plot)


def _check(row: Row, server: Server, uploads: list[bytes], images: npt.NDArray[np.uint8]) -> None:
    """Exit if a server does not answer with the model's own probabilities."""
    expected = load_classifier(EMBEDDED_WEIGHTS).predict_proba(images[:N_CHECKED])
    for upload, probabilities in zip(uploads, expected, strict=False):
        body, kind = (upload, PNG) if row.is_raw else (form(upload), FORM)
        answer = predict(server, body, kind)["probabilities"]
        if not np.allclose(answer, probabilities, rtol=1e-3, atol=1e-6):
            sys.exit(f"{row.name} answers {answer}, expected {probabilities.tolist()}")


def _values(loads: list[Load], field: str) -> list[float]:
    return [getattr(load, field) for load in loads]


def _print_throughput(names: list[str], loads: Loads) -> None:
    heads = (f"{n} connection{'s' if n > 1 else ''}" for n in CONNECTIONS)
    print(f"\n{'requests/s':<28}" + "".join(f"{head:<26}" for head in heads))
    for name in names:
        rates = (spread(_values(loads[name, n], "rate"), ",.0f") for n in CONNECTIONS)
        print(f"{name:<28}" + "".join(f"{rate:<26}" for rate in rates))


def _print_latency(names: list[str], loads: Loads) -> None:
    heads = ("p50, ms", "p99, ms", "CPU, µs per request")
    at = f"at {MANY} connections"
    print(f"\n{at:<28}" + "".join(f"{head:<26}" for head in heads) + "errors, all")
    for name in names:
        many = loads[name, MANY]
        cells = [spread(_values(many, field), ".1f") for field in ("p50", "p99")]
        cells.append(spread(_values(many, "cpu"), ".0f"))
        errors = sum(load.errors for n in CONNECTIONS for load in loads[name, n])
        print(f"{name:<28}" + "".join(f"{cell:<26}" for cell in cells) + f"{errors}")


def _print_ratios(names: list[str], loads: Loads) -> None:
    """Print the ratios within each round, which slow drifts of the machine spare."""
    rates = {name: _values(loads[name, SOME], "rate") for name in names}
    print(f"\nrequests/s of {DIGITS} / requests/s of the others, {SOME} connections")
    for name in names:
        if name != DIGITS:
            print(f"  {name:<28}{spread(ratios(rates[DIGITS], rates[name]))}")
    print(f"requests/s of {RAW} / requests/s of {EMPTY}")
    print(f"  {'':<28}{spread(ratios(rates[RAW], rates[EMPTY]))}")
    p99 = [_values(loads[name, MANY], "p99") for name in (DIGITS, EMPTY)]
    print(f"p99 of {DIGITS} / p99 of {EMPTY}, {MANY} connections")
    print(f"  {'':<28}{spread(ratios(*p99))}")


def _draw(names: list[str], loads: Loads, path: Path) -> None:
    """Plot throughput against connections, with a label at the end of each line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    rates = {key: statistics.median(_values(results, "rate")) for key, results in loads.items()}
    below = 0.0  # the height of the label below
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
    axes.set_title("requests/s, two workers on two cores", loc="left")
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each run")
    parser.add_argument("--plot", type=Path, help="write a plot to this file")
    options = parser.parse_args()
    measure(options.rounds, options.seconds, options.plot)


if __name__ == "__main__":
    main()
