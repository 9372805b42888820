"""Sweeps: runs at several values of hyperparameters, as a table and a plot."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

from training.data.atomic import replacing
from training.results.plots import plot_series, subplots, svg
from training.results.run_files import Curve

PLOT = "sweep.svg"


class Outcome(NamedTuple):
    """The swept values of a run and its training curve, empty if it diverged."""

    values: Mapping[str, str]
    curve: Curve

    @property
    def name(self) -> str:
        """Return the swept values, which are also the name of the run's folder."""
        return ",".join(f"{flag}={value}" for flag, value in self.values.items())

    @property
    def nll(self) -> float:
        """Return the validation NLL of the weights that were kept."""
        return self.curve[-1]["kept"]["nll"] if self.curve else math.inf


def combinations(over: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return every combination of the values of each flag."""
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a table of the runs; the one with the lowest validation NLL is best."""
    width = max(len(each.name) for each in outcomes)
    best = min(outcomes, key=lambda each: each.nll)
    lines = [f"{'':<{width}}{'loss at the end':>17}{'validation accuracy':>21}{'NLL':>8}"]
    for each in outcomes:
        if not each.curve:
            lines.append(f"{each.name:<{width}}{'diverged':>17}")
            continue
        end = each.curve[-1]
        lines.append(
            f"{each.name:<{width}}{end['loss']:>17.4f}"
            f"{end['kept']['accuracy']:>21.4f}{each.nll:>8.4f}" + ("  best" if each is best else "")
        )
    return "\n".join(lines)


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Plot the loss of every run over its steps, and its final validation NLL."""
    finished = [each for each in outcomes if each.curve]
    figure, (losses, ends) = subplots(columns=2, size=(10, 4.2))
    # one colour more than needed, because the last, yellow, is pale on white
    colours = matplotlib.colormaps["viridis"].resampled(len(outcomes) + 1)
    for i, each in enumerate(finished):
        plot_series(losses, each.curve, "loss", color=colours(i))
        ends.barh(each.name, each.nll, color=colours(i))
    ends.invert_yaxis()
    ends.set(xlabel="validation NLL at the end, nats")
    with replacing(path) as partial:
        partial.write_bytes(svg(figure))
