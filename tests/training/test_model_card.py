"""The model card."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from service.classifier import Classifier, load
from service.settings import EMBEDDED_WEIGHTS
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


def head_of(card: str) -> dict:
    return yaml.safe_load(re.fullmatch("---\n(.*?)^---\n.*", card, re.DOTALL | re.MULTILINE)[1])


def test_head_is_what_model_hubs_read(card, classifier, figures):
    head = head_of(card)

    (model,) = head["model-index"]
    (result,) = model["results"]
    assert head["license"] == "mit"
    assert head["pipeline_tag"] == result["task"]["type"] == "image-classification"
    assert model["name"] == f"digits-{classifier.version}"
    assert result["dataset"] == {"name": "drawn test", "type": "synthetic"}
    assert result["metrics"] == [{"type": "accuracy", "value": figures["accuracy"]}]


def test_head_claims_no_licence_for_other_peoples_data(classifier, figures):
    own = dataclasses.replace(classifier, training={"data": "own: 'a\" #b"})

    head = head_of(model_card(Trained(Path("w"), own, []), figures))

    assert head["license"] == "other"
    assert head["model-index"][0]["results"][0]["dataset"]["type"] == "own: 'a\" #b"


def test_shipped_weights_have_their_card():
    classifier = load(EMBEDDED_WEIGHTS)

    card = model_card(Trained(EMBEDDED_WEIGHTS, classifier, []), classifier.evaluation)

    # make report ARGS="service/weights/digits.safetensors --output report.html"
    # mv model-card.md service/weights/README.md
    assert EMBEDDED_WEIGHTS.with_name("README.md").read_text() == card


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
