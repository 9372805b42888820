"""Throughput, latency and CPU of the service, an empty application and its peers.

python -m benchmarks.serving [--rounds 5] [--seconds 2] [--panels mnist mix]
    [--plot docs/throughput.png]

One panel posts MNIST PNGs; the other one posts a mix of what people send, and in it the
peers read pictures by OpenCV.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

import numpy as np

from benchmarks.everyday import mix
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
N_UPLOADS, N_MIX, N_CHECKED = 1_000, 200, 20
BENTOML_HOME = str(Path(tempfile.gettempdir()) / "digits-bentoml")


class Row(NamedTuple):
    """A server to measure, and how pictures are posted to it."""

    name: str
    command: list[str]
    is_raw: bool = False
    has_model: bool = True  # answers with the probabilities of the shipped weights
    settings: Mapping[str, str] = {}


class Panel(NamedTuple):
    """Servers, and the pictures that are posted to them."""

    title: str
    rows: list[Row]
    uploads: Callable[[], list[bytes]]


DIGITS, RAW, EMPTY = "digits", "digits, picture as the body", "empty"
BLUE, LABEL_HEIGHT = "#3b5b92", 1.17
TUTORIAL = "Flask, OpenCV, numpy"
# otherwise BentoML reports usage and writes to the home directory
BENTO = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": BENTOML_HOME}
LITSERVE = [str(PEERS_BIN / "python"), "-m", "benchmarks.peers.lit"]
BENTOML = [
    *(str(PEERS_BIN / "bentoml"), "serve", "benchmarks.peers.bento:Digits"),
    *("--host", "127.0.0.1", "--port", "$PORT"),
]
BY_OPENCV = {"READING": "opencv"}
ROWS = [
    Row(DIGITS, service()),
    Row(RAW, service(), is_raw=True),
    Row(EMPTY, gunicorn("empty:no_op", OWN), has_model=False),
    Row("empty, on gthread", gunicorn("empty:no_op", "gthread"), has_model=False),
    Row("digits, on gthread", service("--worker-class", "gthread")),
    Row("Flask, Pillow, numpy", gunicorn("references:with_numpy()", "gthread")),
    Row("Flask, torch", gunicorn("references:with_torch()", "gthread")),
]
PEERS = [Row("LitServe", LITSERVE), Row("BentoML", BENTOML, settings=BENTO)]
MIX_ROWS = [
    Row(DIGITS, service(), has_model=False),
    Row("digits, on gthread", service("--worker-class", "gthread"), has_model=False),
    Row(EMPTY, gunicorn("empty:no_op", OWN), has_model=False),
]
MIX_PEERS = [
    Row(TUTORIAL, gunicorn("peers.opencv:app()", "gthread", PEERS_BIN), has_model=False),
    Row("LitServe, OpenCV", LITSERVE, has_model=False, settings=BY_OPENCV),
    Row("BentoML, OpenCV", BENTOML, has_model=False, settings=BENTO | BY_OPENCV),
]

Loads = dict[tuple[str, int], list[Load]]  # by name and connections


def panels() -> dict[str, Panel]:
    """Return the panels by name, with the peers that are installed."""
    installed = PEERS_BIN.exists()
    return {
        "mnist": Panel("MNIST PNG", ROWS + PEERS * installed, _mnist),
        "mix": Panel("what people send", MIX_ROWS + MIX_PEERS * installed, lambda: mix(N_MIX)),
    }


def _mnist() -> list[bytes]:
    return [png(image) for image in test_images(N_UPLOADS)]


def measure(panel: Panel, rounds: int, seconds: float) -> Loads:
    """Measure the servers of a panel in interleaved rounds, and print the tables."""
    uploads, rows = panel.uploads(), panel.rows
    names = [row.name for row in rows]
    loads: Loads = {(name, n): [] for name in names for n in CONNECTIONS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bodies = {
            FORM: write_bodies(Path(folder) / "forms.lua", [form(u) for u in uploads]),
            PNG: write_bodies(Path(folder) / "pictures.lua", uploads),
        }
        servers = [stack.enter_context(running(row.command, settings=row.settings)) for row in rows]
        for row, server in zip(rows, servers, strict=True):
            _check(row, server, uploads)
        for _, connections in itertools.product(range(rounds), CONNECTIONS):
            for row, server in zip(rows, servers, strict=True):
                kind = PNG if row.is_raw else FORM
                result = load(server, bodies[kind], connections, seconds, kind)
                loads[row.name, connections].append(result)
    print(f"{panel.title}: medians (ranges) of {rounds} interleaved rounds of {seconds:g} s")
    _print_throughput(names, loads)
    for connections in (1, SOME, MANY):
        _print_latency(names, loads, connections)
    _print_ratios(names, loads)
    return loads


def _check(row: Row, server: Server, uploads: list[bytes]) -> None:
    """Exit if a server refuses a picture, or answers with other probabilities than the model's."""
    expected = load_classifier(EMBEDDED_WEIGHTS).predict_proba(test_images(N_CHECKED))
    for upload, probabilities in zip(uploads, expected, strict=False):
        body, kind = (upload, PNG) if row.is_raw else (form(upload), FORM)
        try:
            answer = predict(server, body, kind)["probabilities"]
        except HTTPError as error:
            sys.exit(f"{row.name} answers {error} to a picture of {len(upload):,} bytes")
        if row.has_model and not np.allclose(answer, probabilities, rtol=1e-3, atol=1e-6):
            sys.exit(f"{row.name} answers {answer}, expected {probabilities.tolist()}")


def _values(loads: list[Load], field: str) -> list[float]:
    return [getattr(load, field) for load in loads]


def _print_throughput(names: list[str], loads: Loads) -> None:
    heads = (f"{n} connection{'s' if n > 1 else ''}" for n in CONNECTIONS)
    print(f"\n{'requests/s':<28}" + "".join(f"{head:<26}" for head in heads))
    for name in names:
        rates = (spread(_values(loads[name, n], "rate"), ",.0f") for n in CONNECTIONS)
        print(f"{name:<28}" + "".join(f"{rate:<26}" for rate in rates))


def _print_latency(names: list[str], loads: Loads, connections: int) -> None:
    heads = ("p50, ms", "p99, ms", "CPU, µs per request")
    at = f"at {connections} connection{'s' if connections > 1 else ''}"
    print(f"\n{at:<28}" + "".join(f"{head:<26}" for head in heads) + "errors")
    for name in names:
        results = loads[name, connections]
        cells = [spread(_values(results, field), ".1f") for field in ("p50", "p99")]
        cells.append(spread(_values(results, "cpu"), ",.0f"))
        errors = sum(load.errors for load in results)
        print(f"{name:<28}" + "".join(f"{cell:<26}" for cell in cells) + f"{errors}")


def _print_ratios(names: list[str], loads: Loads) -> None:
    """Print the ratios within each round, which slow drifts of the machine spare."""
    for field, what in (("rate", "requests/s"), ("cpu", "CPU per request")):
        print(f"\n{what} of {DIGITS} / {what} of the others, {SOME} and {MANY} connections")
        for name in names:
            if name != DIGITS:
                cells = (
                    spread(ratios(*(_values(loads[each, n], field) for each in (DIGITS, name))))
                    for n in (SOME, MANY)
                )
                print(f"  {name:<28}" + "".join(f"{cell:<26}" for cell in cells))
    if RAW in names:
        pair = (_values(loads[name, SOME], "rate") for name in (RAW, EMPTY))
        print(f"requests/s of {RAW} / requests/s of {EMPTY}\n  {'':<28}{spread(ratios(*pair))}")
    p99 = (_values(loads[name, MANY], "p99") for name in (DIGITS, EMPTY))
    print(f"p99 of {DIGITS} / p99 of {EMPTY}, {MANY} connections\n  {'':<28}{spread(ratios(*p99))}")


def _draw(measured: dict[str, Loads], path: Path) -> None:
    """Plot throughput against connections, one panel beside the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    size = (7 * len(measured), 4.5)
    figure, cells = plt.subplots(
        1, len(measured), figsize=size, squeeze=False, layout="constrained"
    )
    for axes, (title, loads) in zip(cells[0], measured.items(), strict=True):
        _draw_panel(axes, title, loads)
    figure.savefig(path, dpi=120)


def _draw_panel(axes: Any, title: str, loads: Loads) -> None:
    """Plot one line per server, with a label at its end."""
    rates = {key: statistics.median(_values(results, "rate")) for key, results in loads.items()}
    names = {name for name, _ in loads}
    below = 0.0  # the height of the label below
    for name in sorted(names, key=lambda name: rates[name, MANY]):
        line = [rates[name, n] for n in CONNECTIONS]
        is_ours = name == DIGITS
        colour = "#0b6e4f" if DIGITS in name else "#9aa0a6" if EMPTY in name else BLUE
        style = "-" if is_ours or DIGITS not in name else ":"
        axes.plot(CONNECTIONS, line, style, color=colour, lw=3 if is_ours else 1.5)
        below = max(line[-1], below * LABEL_HEIGHT)
        weight = "bold" if is_ours else "normal"
        axes.text(1.12 * MANY, below, name, va="center", color=colour, weight=weight, fontsize=9)
    low, high = min(rates.values()), max(rates.values())
    ticks = [n * 10**k for k in range(1, 5) for n in (1, 2, 5) if low / 2 < n * 10**k < 2 * high]
    axes.set(xscale="log", yscale="log", xlabel="connections", xlim=(0.9, 300))
    axes.set_xticks(CONNECTIONS, map(str, CONNECTIONS))
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_title(f"{title}: requests/s, two workers on two cores", loc="left")
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Parse the flags and measure."""
    every = panels()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each run")
    parser.add_argument("--panels", nargs="+", choices=every, default=list(every))
    parser.add_argument("--plot", type=Path, help="write a plot to this file")
    options = parser.parse_args()
    measured = {
        every[name].title: measure(every[name], options.rounds, options.seconds)
        for name in options.panels
    }
    if options.plot:
        _draw(measured, options.plot)


if __name__ == "__main__":
    main()
