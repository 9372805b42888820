import base64
import dataclasses
import re
from pathlib import Path

import pytest

from training.results.comparison import compare
from training.results.run_files import Trained

CURVE = [
    {"step": 100, "learning_rate": 0.5, "loss": 0.5},
    {"step": 200, "learning_rate": 0.1, "loss": 0.4, "validation": {"nll": 0.3}},
]


@pytest.fixture
def runs(classifier):
    """Two runs that tell of two rules, one of them by saying nothing of it."""
    told = [{}, {"rule": "adam", "sha256": "0" * 64}]
    return [
        Trained(
            Path(f"{number}/w"),
            dataclasses.replace(
                classifier,
                training={**classifier.training, **facts},
                version=f"{number}" * 12,
            ),
            CURVE,
        )
        for number, facts in enumerate(told, 1)
    ]


def rows(page: str) -> dict[str, list[str]]:
    lines = re.findall("<tr>(.*?)</tr>", page)
    cells = [re.findall("<t[dh]>(.*?)</t[dh]>", line) for line in lines]
    return {line[0]: line[1:] for line in cells}


def lines(page: str) -> str:
    """The comments of the figure: its labels, which are drawn as outlines."""
    (image,) = re.findall('base64,(.*?)"', page)
    return base64.b64decode(image).decode()


def test_figures_are_those_that_each_file_tells(runs, classifier):
    shown = rows(compare(runs))

    assert shown[""] == ["1", "2"]
    assert shown["model"] == ["1" * 12, "2" * 12]
    for text, name in (("accuracy", "accuracy"), ("Brier score", "brier")):
        assert shown[text] == [f"{classifier.evaluation[name]:.4f}"] * 2
    assert shown["tested on"] == ["1,000 rows of synthetic test"] * 2


def test_only_what_was_chosen_differently_is_shown_defaults_among_it(runs):
    shown = rows(compare(runs))

    assert shown["rule"] == ["descent", "adam"]
    assert not {"learning_rate", "keep", "classes", "sha256"} & set(shown)


def test_every_curve_is_drawn_under_the_name_of_its_run(runs):
    drawn = lines(compare(runs))

    for name in ("111111111111 1", "222222222222 2"):
        assert f"<!-- {name} -->" in drawn


def test_run_without_a_curve_is_named_and_not_drawn(runs):
    page = compare([runs[0], runs[1]._replace(curve=[])])

    assert "Without a curve beside it: 2/w." in page
    assert "222222222222" not in lines(page)


def test_weights_without_an_evaluation_are_compared_in_the_rest(runs):
    bare = dataclasses.replace(runs[1].classifier, evaluation={})

    shown = rows(compare([runs[0], runs[1]._replace(classifier=bare)]))

    assert shown["accuracy"][1] == "–"
    assert shown["tested on"][1] == "0 rows of nothing"
