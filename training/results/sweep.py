"""A sweep: the same run at several learning rates, or at several of any flag."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from training.data.atomic import replacing

PLOT = "sweep.svg"


class Outcome(NamedTuple):
    """What came of a run: the values swept and its curve; none if it diverged."""

    values: Mapping[str, str]
    curve: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Name the run by its values, as its folder is named."""
        return ",".join(f"{flag}={value}" for flag, value in self.values.items())

    @property
    def nll(self) -> float:
        """Give the validation NLL of the weights that were kept."""
        return self.curve[-1]["kept"]["nll"] if self.curve else math.inf


def combinations(over: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Combine every value of each flag with those of the others."""
    return [
        dict(zip(over, values, strict=True))
        for values in itertools.product(*over.values())
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out what came of each run; the validation chooses the best, not the test."""
    width = max(len(each.name) for each in outcomes)
    best = min(outcomes, key=lambda each: each.nll)
    lines = [
        f"{'':<{width}}{'loss at the end':>17}{'validation accuracy':>21}{'NLL':>8}"
    ]
    for each in outcomes:
        if not each.curve:
            lines.append(f"{each.name:<{width}}{'diverged':>17}")
            continue
        end = each.curve[-1]
        lines.append(
            f"{each.name:<{width}}{end['loss']:>17.4f}"
            f"{end['kept']['accuracy']:>21.4f}{each.nll:>8.4f}"
            + ("  best" if each is best else "")
        )
    return "\n".join(lines)


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw the loss of every run over its steps, and where each ended."""
    matplotlib.use("svg")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    losses, ends = figure.subplots(1, 2)
    # not to the end, where the yellow is pale on white
    colours = matplotlib.colormaps["viridis"].resampled(len(outcomes) + 1)
    flags = list(outcomes[0].values)
    whole = [each for each in outcomes if each.curve]
    for i, each in enumerate(whole):
        steps, loss = ([p[name] for p in each.curve] for name in ("step", "loss"))
        losses.plot(steps, loss, color=colours(i), label=each.name, lw=1.2)
    losses.set(xlabel="step", ylabel="loss, nats", yscale="log")
    if whole:
        figure.legend(loc="outside right upper", fontsize=8)
    nll = [each.nll for each in whole]
    numbers = [_positive(each.values[flags[0]]) for each in whole]
    if len(flags) == 1 and all(numbers):
        ends.plot(numbers, nll, "o-", color="grey")
        ends.set(xlabel=flags[0], xscale="log")
    else:
        ends.barh([each.name for each in whole], nll, color="grey")
    ends.set_title("validation NLL at the end, nats", fontsize=10)
    with replacing(path) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})


def _positive(text: str) -> float:
    """Give the number above 0 that a text is, or 0."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
