"""A report on a weights file: one page of HTML with figures, to look at."""

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import FEATURES
from training.data.dataset import DataSet, Digits
from training.results.contours import draw_descents
from training.results.corruptions import RENDERINGS, read_all, rendered
from training.results.evaluation import MEASURES, N_BINS, evaluate, precision_and_recall
from training.results.model_card import as_json, as_markdown, card
from training.results.page import image, page, subplots, table
from training.results.run_files import Trained

N_WORST = 36
N_ROBUSTNESS = 300  # digits a row: enough to see, few enough to wait for
Floats = npt.NDArray[np.float64]


def report(run: Trained, data: DataSet) -> tuple[str, str, str]:
    """Make the page on a run, tested on the data's test digits, and its model card.

    The card is given twice, as Markdown and as JSON.
    """
    classifier = run.classifier
    test = data.test.of_classes(classifier.classes)
    probabilities = classifier.predict_proba(test.images)
    figures = {"data": f"{data.name} test", **evaluate(probabilities, test.labels)}
    confusion = figures["confusion"]
    sections = [
        ("How good it is", _summary(classifier, figures)),
        ("How it was trained", _curve(run.curve)),
        ("How each rule descends", _descents(classifier, confusion, data.train)),
        ("What is taken for what", _confusion(classifier, confusion)),
        ("Digit by digit", _per_digit(classifier, confusion)),
        ("Whether it is as sure as it should be", _reliability(probabilities, test)),
        ("What refusing the unsure gains", _coverage(probabilities, test)),
        ("Its worst mistakes", _worst(classifier, probabilities, test)),
        ("What the weights look for", _templates(classifier, test)),
        ("Digits as people post them", _robustness(classifier, test)),
    ]
    facts = card(run.path.name, classifier, figures)
    text = page(f"Model {classifier.version}", sections)
    return text, as_markdown(facts), as_json(facts)


def _summary(classifier: Classifier, figures: dict[str, Any]) -> str:
    rows = [(text, f"{figures[name]:.4f}") for name, text in MEASURES.items()]
    facts = html.escape(json.dumps(dict(classifier.training), indent=1))
    return (
        table((f"{figures['n']:,} rows of {figures['data']}", ""), rows)
        + f"<details><summary>How it was made</summary><pre>{facts}</pre></details>"
    )


def _curve(curve: Sequence[dict[str, Any]]) -> str:
    if not curve:
        return "<p>There is no curve of this run beside the weights.</p>"
    steps = [point["step"] for point in curve]
    ends = [point for point in curve if "validation" in point]
    figure, (loss, rate) = subplots(columns=2)
    loss.plot(steps, [point["loss"] for point in curve], label="training", lw=0.8)
    nll = [point["validation"]["nll"] for point in ends]
    loss.plot([point["step"] for point in ends], nll, "o-", label="validation")
    loss.set(xlabel="step", ylabel="loss, nats", yscale="log")
    loss.legend()
    rate.plot(steps, [point["learning_rate"] for point in curve])
    rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    return image(figure, "loss and learning rate over the steps")


def _descents(classifier: Classifier, confusion: list[list[int]], train: Digits) -> str:
    """Draw the descents of a small model for the two digits that are confused most."""
    mistakes = np.array(confusion) + np.transpose(confusion)
    np.fill_diagonal(mistakes, -1)
    pair = divmod(int(mistakes.argmax()), len(mistakes))
    first, second = (classifier.classes[i] for i in pair)
    text = f"<p>{first} and {second} are the two digits that it confuses most.</p>"
    drawn = draw_descents(first, second, train.of_classes((first, second)))
    return (text if mistakes.max() > 0 else "") + drawn


def _confusion(classifier: Classifier, confusion: list[list[int]]) -> str:
    counts = np.array(confusion)
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    figure, (axes,) = subplots(size=(6, 5))
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
    return image(figure, "confusion matrix; the mistakes are coloured")


def _per_digit(classifier: Classifier, confusion: list[list[int]]) -> str:
    counts = np.array(confusion)
    precision, recall = precision_and_recall(confusion)
    rows = [
        (digit, total, f"{100 * p:.2f} %", f"{100 * r:.2f} %")
        for digit, total, p, r in zip(
            classifier.classes, counts.sum(axis=1), precision, recall, strict=True
        )
    ]
    return table(("digit", "rows", "precision", "recall"), rows)


def _reliability(probabilities: Floats, test: Digits) -> str:
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == test.labels
    bins = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    filled = np.unique(bins)
    figure, (axes, counts) = subplots(columns=2)
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    axes.plot(
        [sure[bins == b].mean() for b in filled],
        [right[bins == b].mean() for b in filled],
        "o-",
    )
    axes.set(xlabel="probability given", ylabel="share that is right")
    counts.hist(sure, bins=N_BINS, range=(0, 1))
    counts.set(xlabel="probability given", ylabel="answers", yscale="log")
    return image(figure, "reliability diagram, and how often each probability is given")


def _coverage(probabilities: Floats, test: Digits) -> str:
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == test.labels
    order = np.argsort(-sure)
    coverage = np.arange(1, len(order) + 1) / len(order)
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    figure, (axes,) = subplots()
    axes.plot(100 * coverage, 100 * accuracy)
    for limit in (0.5, 0.9, 0.99):
        share = (sure >= limit).mean()
        if share > 0:
            axes.plot(100 * share, 100 * right[sure >= limit].mean(), "o", label=limit)
    axes.set(xlabel="answers given, %", ylabel="of these right, %")
    axes.legend(title="probability at least")
    return image(figure, "accuracy against coverage")


def _worst(classifier: Classifier, probabilities: Floats, test: Digits) -> str:
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != test.labels)
    if len(wrong) == 0:
        return "<p>It made none.</p>"
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:N_WORST]
    figure, cells = subplots(columns=9, rows=4, size=(9, 5))
    for axes in cells:
        axes.set_axis_off()
    for axes, i in zip(cells, worst, strict=False):
        read = classifier.classes[int(probabilities[i].argmax())]
        axes.imshow(test.images[i], cmap="gray_r")
        true = classifier.classes[test.labels[i]]
        axes.set_title(f"{true} as {read}, {probabilities[i].max():.2f}", fontsize=8)
    return image(figure, "the mistakes that it was surest of")


def _templates(classifier: Classifier, test: Digits) -> str:
    """Show the weights of pixels as images, and of others what they answer to most."""
    n_classes = len(classifier.classes)
    figure, cells = subplots(columns=5, rows=-(-n_classes // 5), size=(9, 4))
    for axes in cells:
        axes.set_axis_off()
    if classifier.features == "pixels":
        # softmax does not change by what is the same for all classes
        weight = classifier.weight - classifier.weight.mean(axis=1, keepdims=True)
        templates = weight.T.reshape(n_classes, *test.images.shape[1:])
        text = (
            "The weights themselves, less their mean over the classes: blue speaks for "
            "the digit, red against it."
        )
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
    return f"<p>{text}</p>" + image(figure, "a template for each class")


def _robustness(classifier: Classifier, test: Digits) -> str:
    n = min(N_ROBUSTNESS, len(test))
    images, labels = test.images[:n], test.labels[:n]
    rows = []
    for name, rendering in RENDERINGS.items():
        read, refused = read_all(rendered(images, rendering, seed=0))
        right = (classifier.predict_proba(read).argmax(axis=1) == labels) & ~refused
        rows.append((name, f"{100 * right.mean():.1f} %", refused.sum()))
    return f"<p>{n} test digits a row.</p>" + table(
        ("posted", "right", "refused"), rows
    )
