"""Figures of training curves, predictions and images."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.results.evaluation import N_BINS, bins_of
from training.results.run_files import Curve

SERIES = {
    "loss": "training loss, nats",
    "validation": "validation NLL, nats",
    "learning_rate": "learning rate",
}
THRESHOLDS = (0.5, 0.9, 0.99)  # probabilities that are marked in a coverage curve
SMALL = 8  # points of text
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def subplots(
    columns: int = 1, rows: int = 1, size: tuple[float, float] = (8, 4)
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `size` inches and its axes, without matplotlib's pyplot."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def svg(figure: Figure) -> bytes:
    """Render a figure as SVG."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def plot_series(
    axes: Axes, curve: Curve, name: str, marks: str = "-", label: str = "", **style: Any
) -> None:
    """Plot one of SERIES over the steps, at the points of the curve that have it."""
    points = [point for point in curve if name in point]
    values = [point[name]["nll"] if name == "validation" else point[name] for point in points]
    label = label.replace("$", r"\$")  # matplotlib parses $...$ as a formula
    axes.plot([point["step"] for point in points], values, marks, label=label, **style)
    axes.set(xlabel="step", ylabel=SERIES[name])
    if name != "learning_rate":
        axes.set_yscale("log")


def training_curves(curves: Mapping[str, Curve]) -> Figure:
    """Plot the losses and the learning rates of named runs."""
    figure, (loss, rate) = subplots(columns=2, size=(9, 4.5))
    for i, (name, curve) in enumerate(curves.items()):
        colour = f"C{i}"
        plot_series(loss, curve, "loss", label=name, lw=0.8, color=colour)
        plot_series(loss, curve, "validation", "o", ms=4, color=colour)
        plot_series(rate, curve, "learning_rate", color=colour)
    loss.set_ylabel("loss, nats (line: training, dots: validation)")
    rate.set_ylim(0, None)
    figure.legend(loc="outside lower center")
    return figure


def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[int]) -> Figure:
    """Show the counts of a confusion matrix, its mistakes coloured."""
    counts = np.array(confusion)
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    figure, (axes,) = subplots(size=(6, 5))
    axes.imshow(wrong, cmap="Oranges")
    ticks = range(len(counts))
    axes.set(xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
    axes.set_xticklabels(map(str, classes))
    axes.set_yticklabels(map(str, classes))
    for y, x in np.ndindex(counts.shape):
        colour = "white" if wrong[y, x] > wrong.max() / 2 else "black"
        text = axes.text(x, y, str(counts[y, x]), fontsize=SMALL, color=colour)
        text.set(ha="center", va="center")
    return figure


def reliability_diagram(confidence: Floats, right: Bools) -> Figure:
    """Plot accuracy over confidence (n,) by bin, and the number of rows in each bin."""
    bins = bins_of(confidence)
    n = np.bincount(bins, minlength=N_BINS)
    filled = n > 0
    figure, (axes, counts) = subplots(columns=2)
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    x, y = (np.bincount(bins, each, N_BINS) for each in (confidence, right))
    axes.plot(x[filled] / n[filled], y[filled] / n[filled], "o-")
    axes.set(xlabel="largest probability", ylabel="accuracy")
    counts.stairs(n, np.linspace(0, 1, N_BINS + 1), fill=True)
    counts.set(xlabel="largest probability", ylabel="digits", yscale="log")
    return figure


def coverage_curve(confidence: Floats, right: Bools) -> Figure:
    """Plot the accuracy on the most confident share of the rows over that share."""
    n = len(right)
    accuracy = np.cumsum(right[np.argsort(-confidence)]) / np.arange(1, n + 1)
    figure, (axes,) = subplots()
    axes.plot(100 * np.arange(1, n + 1) / n, 100 * accuracy)
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        if kept.any():
            axes.plot(100 * kept.mean(), 100 * right[kept].mean(), "o", label=str(threshold))
    axes.set(xlabel="answered, %", ylabel="accuracy of the answers, %")
    axes.legend(title="probability at least")
    return figure


def image_grid(
    images: npt.NDArray[Any],
    titles: Sequence[str],
    columns: int,
    size: tuple[float, float],
    **style: Any,
) -> Figure:
    """Show images (n, height, width) with their titles in a grid."""
    figure, cells = subplots(columns, -(-len(images) // columns), size)
    for axes in cells:
        axes.set_axis_off()
    for axes, pixels, title in zip(cells, images, titles, strict=False):
        axes.imshow(pixels, **style)
        axes.set_title(title, fontsize=SMALL)
    return figure
