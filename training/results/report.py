"""HTML reports on one run, or on several runs side by side."""

import html
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import FEATURES
from training.data.dataset import DataSet, Digits
from training.results import plots
from training.results.corruptions import CORRUPTIONS, corrupt, read_uploads
from training.results.evaluation import (
    METRIC_NAMES,
    by_digit,
    evaluate,
    named_metrics,
    probabilities,
    refused,
)
from training.results.model_card import model_card
from training.results.page import image, page, table
from training.results.run_files import Trained

N_MISTAKES = 36
N_CORRUPTED = 300  # digits per corruption
N_AVERAGED = 50  # digits in the template of a class
NOT_COMPARED = {"sha256", "versions"}
Floats = npt.NDArray[np.float64]


def report(run: Trained, data: DataSet) -> tuple[str, str]:
    """Return the HTML report on a run and its model card in Markdown.

    The run is evaluated on the test digits of `data`.
    """
    classifier = run.classifier
    test = data.test.of_classes(classifier.classes)
    p = probabilities(classifier, test.images)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == test.labels
    figures = {
        "data": f"{data.name} test",
        **evaluate(p, test.labels, refused(classifier, test.images)),
    }
    confusion = plots.confusion_matrix(figures["confusion"], classifier.classes)
    reliability = plots.reliability_diagram(confidence, right)
    coverage = plots.coverage_curve(confidence, right)
    digits = by_digit(classifier.classes, figures["confusion"])
    sections = {
        "Test metrics": table(*named_metrics(figures)) + _metadata(classifier),
        "Training curve": _training_curves([run]),
        "Confusion matrix": image(confusion, "confusion matrix"),
        "Precision and recall": table(*digits),
        "Calibration": image(reliability, "reliability diagram and histogram"),
        "Accuracy against coverage": image(coverage, "accuracy against coverage"),
        "Most confident mistakes": _mistakes(classifier, p, test),
        "What each class responds to": _templates(classifier, test),
        "Accuracy on corrupted digits": _corruptions(classifier, test),
    }
    return page(f"Model {classifier.version}", sections), model_card(run, figures)


def compare(runs: Sequence[Trained]) -> str:
    """Return an HTML page that compares runs by the contents of their files."""
    sections = {
        "Metrics and hyperparameters": _side_by_side(runs),
        "Training curves": _training_curves(runs),
    }
    return page(f"{len(runs)} models", sections)


def _metadata(classifier: Classifier) -> str:
    facts = html.escape(json.dumps(dict(classifier.training), indent=1))
    return f"<details><summary>Training metadata</summary><pre>{facts}</pre></details>"


def _training_curves(runs: Sequence[Trained]) -> str:
    curves = {f"{run.classifier.version} {run.path}": run.curve for run in runs}
    missing = html.escape(", ".join(name for name in curves if not curves[name]))
    note = f"<p>No training curve found beside {missing}.</p>" if missing else ""
    found = {name: curve for name, curve in curves.items() if curve}
    if not found:
        return note
    return image(plots.training_curves(found), "losses and learning rate") + note


def _mistakes(classifier: Classifier, p: Floats, test: Digits) -> str:
    predicted, confidence = p.argmax(axis=1), p.max(axis=1)
    wrong = np.flatnonzero(predicted != test.labels)
    if len(wrong) == 0:
        return "<p>Every test digit was classified correctly.</p>"
    worst = wrong[np.argsort(-confidence[wrong])][:N_MISTAKES]
    name = classifier.classes
    titles = [f"{name[test.labels[i]]} as {name[predicted[i]]}, {confidence[i]:.2f}" for i in worst]
    figure = plots.image_grid(test.images[worst], titles, columns=9, size=(9, 5), cmap="gray_r")
    return image(figure, "the most confident mistakes")


def _templates(classifier: Classifier, test: Digits) -> str:
    """Show pixel weights as images; for other features, average digits."""
    if classifier.features == "pixels":
        # softmax is invariant to what is added to all classes
        weight = classifier.weight - classifier.weight.mean(axis=1, keepdims=True)
        templates = weight.T.reshape(-1, *test.images.shape[1:])
        text = (
            "The weights minus their mean over the classes: blue is evidence for the "
            "digit, red against it."
        )
    else:
        logits = classifier.logits(FEATURES[classifier.features](test.images))
        relative = logits - logits.mean(axis=1, keepdims=True)
        largest = np.argsort(-relative, axis=0)[:N_AVERAGED]
        averages = [test.images[rows].mean(axis=0) for rows in largest.T]
        templates = np.stack(averages) - test.images.mean(axis=0)
        text = (
            f"The average of the {N_AVERAGED} test digits with the largest logit of "
            "each class, minus the average of all: blue is more ink, red is less."
        )
    limit = np.abs(templates).max()
    style = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
    titles = [str(digit) for digit in classifier.classes]
    figure = plots.image_grid(templates, titles, columns=5, size=(9, 4), **style)
    return f"<p>{text}</p>" + image(figure, "a template of each class")


def _corruptions(classifier: Classifier, test: Digits) -> str:
    digits = test.rows(0, N_CORRUPTED)
    rows = []
    for name, corruption in CORRUPTIONS.items():
        images, refused = read_uploads(corrupt(digits.images, corruption, seed=0))
        predicted = classifier.predict_proba(images).argmax(axis=1)
        right = (predicted == digits.labels) & ~refused
        rows.append((name, f"{100 * right.mean():.1f} %", refused.sum()))
    text = f"<p>{len(digits)} test digits per row; a refused picture counts as wrong.</p>"
    return text + table(("corruption", "accuracy", "refused"), rows)


def _side_by_side(runs: Sequence[Trained]) -> str:
    """Return a table of the metrics, and of the hyperparameters that differ."""
    choices = _rows([_choices(run) for run in runs])
    differing = [row for row in choices if len(set(row[1:])) > 1]
    head = ("", *(str(run.path) for run in runs))
    return table(head, _rows([_figures(run) for run in runs]) + differing)


def _rows(columns: Sequence[dict[str, object]]) -> list[tuple[str, ...]]:
    """Return the named values of each run as rows."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(str(c.get(name, "–")) for c in columns)) for name in names]


def _figures(run: Trained) -> dict[str, object]:
    figures = run.classifier.evaluation
    shown = {t: f"{figures[k]:.4f}" for k, t in METRIC_NAMES.items() if k in figures}
    if {"n", "data"} <= figures.keys():
        shown["tested on"] = f"{figures['n']:,} rows of {figures['data']}"
    return {"model": run.classifier.version, **shown}


def _choices(run: Trained) -> dict[str, object]:
    classes = ", ".join(map(str, run.classifier.classes))
    choices = {"classes": classes, **run.training()}
    return {name: value for name, value in choices.items() if name not in NOT_COMPARED}
