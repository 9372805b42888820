import dataclasses
import json
import re

import numpy as np
import pytest

from service.classifier import Classifier
from training.results.evaluation import evaluate
from training.results.model_card import as_json, as_markdown, card


@pytest.fixture
def facts(classifier, drawn):
    probabilities = classifier.predict_proba(drawn.test.images)
    figures = {"data": "drawn test", **evaluate(probabilities, drawn.test.labels)}
    return card("digits.safetensors", classifier, figures)


def test_json_read_back_is_the_same_facts(facts):
    assert json.loads(as_json(facts)) == facts


def test_card_tells_the_run_as_the_weights_file_does(facts, classifier):
    text = as_markdown(facts)

    assert facts["training"] == classifier.training
    assert facts["model"]["parameters"] == 721 * 10
    for value in (
        classifier.version,
        classifier.training["sha256"],
        classifier.training["rows"],
        classifier.training["learning_rate"],
        classifier.training["versions"]["torch"],
    ):
        assert f"| {value} |" in text


def test_card_tells_every_figure_of_the_evaluation(facts):
    text = as_markdown(facts)

    assert f"{facts['evaluation']['n']} rows of drawn test" in text
    for name in ("accuracy", "nll", "brier", "ece"):
        assert f"| {facts['evaluation'][name]:.4f} |" in text
    for digit in facts["digits"]:
        shares = f"{digit['precision']:.4f} | {digit['recall']:.4f}"
        assert f"| {digit['digit']} | {digit['rows']} | {shares} |" in text


def test_card_has_a_section_for_every_question(facts):
    assert re.findall("^## (.*)", as_markdown(facts), re.MULTILINE) == [
        "What it is for",
        "What it is not for",
        "What it was trained on",
        "How it was trained",
        "How good it is",
        "Limits",
        "How to load it",
    ]


def test_way_to_load_it_that_is_shown_loads_it(facts, weights, drawn, monkeypatch):
    (script,) = re.findall("```python\n(.*?)```", as_markdown(facts), re.DOTALL)
    monkeypatch.chdir(weights.parent)
    names = {"images": drawn.test.images}

    exec(script, names)

    figures = evaluate(names["probabilities"], drawn.test.labels)
    assert figures.items() <= facts["evaluation"].items()


def test_binary_model_has_one_column_of_parameters():
    zero = np.zeros((784, 2), np.float32), np.zeros(2, np.float32)
    classifier = Classifier(*zero, classes=(3, 8), features="pixels")
    figures = evaluate(np.full((4, 2), 0.5), np.array([0, 0, 1, 1]))

    facts = card("pair", classifier, {"data": "four digits", **figures})

    assert facts["model"]["parameters"] == 785
    assert [d["digit"] for d in facts["digits"]] == [3, 8]
    assert [d["precision"] for d in facts["digits"]] == [0.5, 0.0]
    assert [d["recall"] for d in facts["digits"]] == [1.0, 0.0]


def test_weights_that_tell_nothing_of_their_training_have_a_card(facts, classifier):
    bare = dataclasses.replace(classifier, training={})

    assert bare.version in as_markdown(card("w", bare, facts["evaluation"]))
