import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from service.classifier import Classifier
from training.results.evaluation import evaluate, precision_and_recall
from training.results.model_card import model_card
from training.results.run_files import Trained


@pytest.fixture
def figures(classifier, drawn):
    probabilities = classifier.predict_proba(drawn.test.images)
    return {"data": "drawn test", **evaluate(probabilities, drawn.test.labels)}


@pytest.fixture
def card(classifier, figures):
    return model_card(Trained(Path("digits.safetensors"), classifier, []), figures)


def test_card_shows_the_training_metadata_of_the_weights_file(card, classifier):
    for value in (
        classifier.version,
        classifier.training["sha256"],
        classifier.training["rows"],
        classifier.training["learning_rate"],
        classifier.training["versions"]["torch"],
    ):
        assert f"| {value} |" in card
    assert "| rule | descent |" in card  # a default that the file leaves out
    assert "| parameters | 31510 |" in card


def test_card_shows_every_figure_of_the_evaluation(card, figures):
    assert f"{figures['n']} rows of drawn test" in card
    for name in ("accuracy", "nll", "brier", "ece"):
        assert f"| {figures[name]:.4f} |" in card
    precision, recall = precision_and_recall(figures["confusion"])
    for digit, counts in enumerate(figures["confusion"]):
        shares = f"{precision[digit]:.4f} | {recall[digit]:.4f}"
        assert f"| {digit} | {sum(counts)} | {shares} |" in card


def test_card_has_a_section_for_every_question(card):
    assert re.findall("^## (.*)", card, re.MULTILINE) == [
        "Intended use",
        "Out-of-scope use",
        "Training data",
        "Training",
        "Evaluation",
        "Limitations",
        "Loading",
    ]


def test_loading_code_of_the_card_loads_the_model(card, figures, weights, drawn, monkeypatch):
    (script,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(weights.parent)
    names = {"images": drawn.test.images}

    exec(script, names)

    computed = evaluate(names["probabilities"], drawn.test.labels)
    assert computed.items() <= figures.items()


def test_binary_model_has_one_column_of_parameters():
    zero = np.zeros((784, 2), np.float32), np.zeros(2, np.float32)
    classifier = Classifier(*zero, classes=(3, 8), features="pixels")
    figures = evaluate(np.full((4, 2), 0.5), np.array([0, 0, 1, 1]))

    run = Trained(Path("pair"), classifier, [])
    card = model_card(run, {"data": "four digits", **figures})

    assert "| parameters | 785 |" in card
    assert "| 3 | 2 | 0.5000 | 1.0000 |" in card
    assert "| 8 | 2 | 0.0000 | 0.0000 |" in card


def test_weights_without_training_metadata_have_a_card(classifier, figures):
    bare = dataclasses.replace(classifier, training={})

    assert bare.version in model_card(Trained(Path("w"), bare, []), figures)
