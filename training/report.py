"""A report on a weights file: one page of HTML with figures, to look at."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from service.classifier import Classifier
from service.features import FEATURES
from training.data import DataSet, Digits
from training.evaluation import N_BINS, evaluate
from training.renderings import RENDERINGS, read_all, rendered

N_WORST = 36
N_ROBUSTNESS = 300  # digits a row: enough to see, few enough to wait for
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff }
h2 { margin-top: 2.5rem } img { max-width: 100% }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: #f3f3f3 }
"""
Floats = npt.NDArray[np.float64]


def write_report(
    classifier: Classifier, data: DataSet, curve: Sequence[dict[str, Any]], path: Path
) -> None:
    """Write the page on a classifier, tested on the data's test digits, to `path`."""
    matplotlib.use("svg")
    test = data.test.of_classes(classifier.classes)
    probabilities = classifier.predict_proba(test.images)
    figures = evaluate(probabilities, test.labels)
    sections = [
        ("How good it is", _summary(classifier, figures, f"{data.name} test")),
        ("How it was trained", _curve(curve)),
        ("What is taken for what", _confusion(classifier, figures["confusion"])),
        ("Digit by digit", _per_digit(classifier, figures["confusion"])),
        ("Whether it is as sure as it should be", _reliability(probabilities, test)),
        ("What refusing the unsure gains", _coverage(probabilities, test)),
        ("Its worst mistakes", _worst(classifier, probabilities, test)),
        ("What the weights look for", _templates(classifier, test)),
        ("Digits as people post them", _robustness(classifier, test)),
    ]
    body = "".join(f"<h2>{title}</h2>\n{content}\n" for title, content in sections)
    title = f"Model {classifier.version}"
    path.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>\n<h1>{title}</h1>\n{body}</html>\n",
        encoding="utf-8",
    )


def _figure(columns: int = 1, rows: int = 1, size: tuple[float, float] = (8, 4)) -> Any:
    """Make a figure and its axes, without a window and without global state."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _image(figure: Figure, alt: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def line(cells: Sequence[object], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>\n{body}</table>"


def _summary(classifier: Classifier, figures: dict[str, Any], data: str) -> str:
    rows = [
        ("accuracy", f"{figures['accuracy']:.4f}"),
        ("negative log-likelihood, nats", f"{figures['nll']:.4f}"),
        ("Brier score", f"{figures['brier']:.4f}"),
        (f"expected calibration error, {N_BINS} bins", f"{figures['ece']:.4f}"),
    ]
    facts = html.escape(json.dumps(dict(classifier.training), indent=1))
    return (
        _table((f"{figures['n']:,} rows of {data}", ""), rows)
        + f"<details><summary>How it was made</summary><pre>{facts}</pre></details>"
    )


def _curve(curve: Sequence[dict[str, Any]]) -> str:
    if not curve:
        return "<p>There is no metrics.jsonl beside the weights.</p>"
    steps = [point["step"] for point in curve]
    ends = [point for point in curve if "validation" in point]
    figure, (loss, rate) = _figure(columns=2)
    loss.plot(steps, [point["loss"] for point in curve], label="training", lw=0.8)
    nll = [point["validation"]["nll"] for point in ends]
    loss.plot([point["step"] for point in ends], nll, "o-", label="validation")
    loss.set(xlabel="step", ylabel="loss, nats", yscale="log")
    loss.legend()
    rate.plot(steps, [point["learning_rate"] for point in curve])
    rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    return _image(figure, "loss and learning rate over the steps")


def _confusion(classifier: Classifier, confusion: list[list[int]]) -> str:
    counts = np.array(confusion)
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    figure, (axes,) = _figure(size=(6, 5))
    axes.imshow(wrong, cmap="Oranges")
    ticks = range(len(counts))
    axes.set(xlabel="read as", ylabel="is", xticks=ticks, yticks=ticks)
    axes.set_xticklabels(classifier.classes)
    axes.set_yticklabels(classifier.classes)
    for y, x in np.ndindex(counts.shape):
        colour = "white" if wrong[y, x] > wrong.max() / 2 else "black"
        axes.text(
            x, y, counts[y, x], ha="center", va="center", fontsize=8, color=colour
        )
    return _image(figure, "confusion matrix; the mistakes are coloured")


def _per_digit(classifier: Classifier, confusion: list[list[int]]) -> str:
    counts = np.array(confusion)
    right = np.diag(counts)
    precision = right / np.maximum(counts.sum(axis=0), 1)
    recall = right / np.maximum(counts.sum(axis=1), 1)
    rows = [
        (digit, total, f"{100 * p:.2f} %", f"{100 * r:.2f} %")
        for digit, total, p, r in zip(
            classifier.classes, counts.sum(axis=1), precision, recall, strict=True
        )
    ]
    return _table(("digit", "rows", "precision", "recall"), rows)


def _reliability(probabilities: Floats, test: Digits) -> str:
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == test.labels
    bins = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    filled = np.unique(bins)
    figure, (axes, counts) = _figure(columns=2)
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    axes.plot(
        [sure[bins == b].mean() for b in filled],
        [right[bins == b].mean() for b in filled],
        "o-",
    )
    axes.set(xlabel="probability given", ylabel="share that is right")
    counts.hist(sure, bins=N_BINS, range=(0, 1))
    counts.set(xlabel="probability given", ylabel="answers", yscale="log")
    return _image(
        figure, "reliability diagram, and how often each probability is given"
    )


def _coverage(probabilities: Floats, test: Digits) -> str:
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == test.labels
    order = np.argsort(-sure)
    coverage = np.arange(1, len(order) + 1) / len(order)
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    figure, (axes,) = _figure()
    axes.plot(100 * coverage, 100 * accuracy)
    for limit in (0.5, 0.9, 0.99):
        share = (sure >= limit).mean()
        if share > 0:
            axes.plot(100 * share, 100 * right[sure >= limit].mean(), "o", label=limit)
    axes.set(xlabel="answers given, %", ylabel="of these right, %")
    axes.legend(title="probability at least")
    return _image(figure, "accuracy against coverage")


def _worst(classifier: Classifier, probabilities: Floats, test: Digits) -> str:
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != test.labels)
    if len(wrong) == 0:
        return "<p>It made none.</p>"
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:N_WORST]
    figure, cells = _figure(columns=9, rows=4, size=(9, 5))
    for axes in cells:
        axes.set_axis_off()
    for axes, i in zip(cells, worst, strict=False):
        read = classifier.classes[int(probabilities[i].argmax())]
        axes.imshow(test.images[i], cmap="gray_r")
        true = classifier.classes[test.labels[i]]
        axes.set_title(f"{true} as {read}, {probabilities[i].max():.2f}", fontsize=8)
    return _image(figure, "the mistakes that it was surest of")


def _templates(classifier: Classifier, test: Digits) -> str:
    """Show the weights of pixels as images, and of others what they answer to most."""
    n_classes = len(classifier.classes)
    figure, cells = _figure(columns=5, rows=-(-n_classes // 5), size=(9, 4))
    for axes in cells:
        axes.set_axis_off()
    if classifier.features == "pixels":
        templates = classifier.weight.T.reshape(n_classes, *test.images.shape[1:])
        text = "The weights themselves: blue speaks for the digit, red against it."
    else:
        logits = classifier.logits(FEATURES[classifier.features](test.images))
        signed = logits - logits.mean(axis=1, keepdims=True)
        most = np.argsort(-signed, axis=0)[:50]
        average = test.images.mean(axis=0)
        templates = np.stack(
            [test.images[rows].mean(axis=0) - average for rows in most.T]
        )
        text = (
            "The fifty test digits that each class's weights answer to most, averaged, "
            "less the average of all: blue is more ink than usual, red is less."
        )
    largest = np.abs(templates).max()
    for axes, digit, template in zip(
        cells, classifier.classes, templates, strict=False
    ):
        axes.imshow(template, cmap="RdBu", vmin=-largest, vmax=largest)
        axes.set_title(digit)
    return f"<p>{text}</p>" + _image(figure, "a template for each class")


def _robustness(classifier: Classifier, test: Digits) -> str:
    n = min(N_ROBUSTNESS, len(test))
    images, labels = test.images[:n], test.labels[:n]
    rows = []
    for name, rendering in RENDERINGS.items():
        read, refused = read_all(rendered(images, rendering, seed=0))
        right = (classifier.predict_proba(read).argmax(axis=1) == labels) & ~refused
        rows.append((name, f"{100 * right.mean():.1f} %", refused.sum()))
    return f"<p>{n} test digits a row.</p>" + _table(
        ("posted", "right", "refused"), rows
    )
