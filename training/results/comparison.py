"""Several runs side by side: their figures, what they differ in, their curves."""

import html
import os
from collections.abc import Sequence

from training.recipes import DEFAULTS
from training.results.evaluation import MEASURES
from training.results.page import image, page, subplots, table
from training.results.run_files import Trained

NOT_CHOSEN = {"sha256", "versions"}


def compare(runs: Sequence[Trained]) -> str:
    """Make the page on several runs, of what their own files tell."""
    sections = [
        ("Side by side", _side_by_side(runs)),
        ("How they were trained", _curves(runs)),
    ]
    return page(f"{len(runs)} models", sections)


def _side_by_side(runs: Sequence[Trained]) -> str:
    """Lay out the figures of all, and those choices that are not the same for all."""
    choices = _rows([_choices(run) for run in runs])
    differing = [row for row in choices if len(set(row[1:])) > 1]
    figures = _rows([_figures(run) for run in runs])
    return table(("", *_names(runs)), figures + differing)


def _names(runs: Sequence[Trained]) -> list[str]:
    """Name runs by their paths, without what is the same in all of them."""
    paths = [run.path.resolve() for run in runs]
    if len({path.name for path in paths}) == 1:
        paths = [path.parent for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(common)) for path in paths]


def _rows(columns: Sequence[dict[str, object]]) -> list[tuple[str, ...]]:
    """Turn one column of named facts a run into rows."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(str(c.get(name, "–")) for c in columns)) for name in names]


def _figures(run: Trained) -> dict[str, object]:
    told = run.classifier.evaluation
    shown = {text: f"{told[k]:.4f}" for k, text in MEASURES.items() if k in told}
    tested = f"{told.get('n', 0):,} rows of {told.get('data', 'nothing')}"
    return {"model": run.classifier.version, **shown, "tested on": tested}


def _choices(run: Trained) -> dict[str, object]:
    classes = ", ".join(map(str, run.classifier.classes))
    told = {**DEFAULTS, "classes": classes, **run.classifier.training}
    return {name: value for name, value in told.items() if name not in NOT_CHOSEN}


def _curves(runs: Sequence[Trained]) -> str:
    drawn = [run for run in runs if run.curve]
    without = [run for run in runs if not run.curve]
    names = html.escape(", ".join(str(run.path) for run in without))
    note = f"<p>Without a curve beside it: {names}.</p>"
    return (_drawn(drawn) if drawn else "") + (note if without else "")


def _drawn(runs: Sequence[Trained]) -> str:
    figure, (loss, nll) = subplots(columns=2, size=(9, 5))
    for run, name in zip(runs, _names(runs), strict=True):
        steps = [point["step"] for point in run.curve]
        (line,) = loss.plot(steps, [point["loss"] for point in run.curve], lw=0.8)
        # a $ would begin a formula
        line.set_label(f"{run.classifier.version} {name}".replace("$", r"\$"))
        ends = [point for point in run.curve if "validation" in point]
        values = [point["validation"]["nll"] for point in ends]
        nll.plot([point["step"] for point in ends], values, ".-", c=line.get_color())
    loss.set(xlabel="step", ylabel="training loss, nats", yscale="log")
    nll.set(xlabel="step", ylabel="validation NLL, nats", yscale="log")
    figure.legend(loc="outside lower center")
    return image(figure, "training loss and validation NLL over the steps")
