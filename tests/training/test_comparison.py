"""The report of several runs."""

import base64
import dataclasses
import re
from pathlib import Path

import pytest

from training.results.report import compare
from training.results.run_files import Trained

CURVE = [
    {"step": 100, "learning_rate": 0.5, "loss": 0.5},
    {"step": 200, "learning_rate": 0.1, "loss": 0.4, "validation": {"nll": 0.3}},
]


@pytest.fixture
def runs(classifier):
    """Two runs of two rules; the first leaves out its rule, which is the default."""
    changes = [{}, {"rule": "adam", "sha256": "0" * 64}]
    return [
        Trained(
            Path(f"{number}/w"),
            dataclasses.replace(
                classifier, training={**classifier.training, **facts}, version=f"{number}" * 12
            ),
            CURVE,
        )
        for number, facts in enumerate(changes, 1)
    ]


def rows(page: str) -> dict[str, list[str]]:
    lines = re.findall("<tr>(.*?)</tr>", page)
    cells = [re.findall("<t[dh]>(.*?)</t[dh]>", line) for line in lines]
    return {line[0]: line[1:] for line in cells}


def figure(page: str) -> str:
    """The SVG of the page; its comments are the labels, drawn as outlines."""
    (image,) = re.findall('base64,(.*?)"', page)
    return base64.b64decode(image).decode()


def test_figures_are_those_of_each_file(runs, classifier):
    shown = rows(compare(runs))

    assert shown[""] == ["1/w", "2/w"]
    assert shown["model"] == ["1" * 12, "2" * 12]
    for text, name in (("accuracy", "accuracy"), ("Brier score", "brier")):
        assert shown[text] == [f"{classifier.evaluation[name]:.4f}"] * 2
    n, data = classifier.evaluation["n"], classifier.evaluation["data"]
    assert shown["tested on"] == [f"{n:,} rows of {data}"] * 2


def test_only_hyperparameters_that_differ_are_shown_including_defaults(runs):
    shown = rows(compare(runs))

    assert shown["rule"] == ["descent", "adam"]
    assert not {"learning_rate", "keep", "classes", "sha256"} & set(shown)


def test_every_curve_is_drawn_under_the_name_of_its_run(runs):
    drawn = figure(compare(runs))

    for name in ("111111111111 1/w", "222222222222 2/w"):
        assert f"<!-- {name} -->" in drawn


def test_run_without_a_curve_is_named_and_not_drawn(runs):
    page = compare([runs[0], runs[1]._replace(curve=[])])

    assert "No training curve found beside 222222222222 2/w." in page
    assert "222222222222" not in figure(page)


def test_runs_without_any_curve_are_compared_without_a_figure(runs):
    page = compare([run._replace(curve=[]) for run in runs])

    assert "<img" not in page
    assert "111111111111 1/w, 222222222222 2/w" in page


def test_weights_without_an_evaluation_are_compared_in_the_rest(runs):
    bare = dataclasses.replace(runs[1].classifier, evaluation={})

    shown = rows(compare([runs[0], runs[1]._replace(classifier=bare)]))

    assert shown["accuracy"][1] == shown["tested on"][1] == "–"
