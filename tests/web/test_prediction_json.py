"""The JSON of predictions."""

import json

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier, Scores
from service.web.prediction_json import prediction, predictions


def scores_of(probabilities: npt.ArrayLike, is_digit: npt.ArrayLike | None = None) -> Scores:
    rows = None if is_digit is None else np.asarray(is_digit, float)
    return Scores(np.asarray(probabilities, float), rows)


def test_probabilities_have_seven_significant_digits(classifier):
    probabilities = np.array([1e-320, 1e-17, 1 / 3, 0.2, 0.1, 0, 0.3, 1e-9, 0.05, 0.01])

    reply = json.loads(prediction(classifier, scores_of([probabilities]), 0, {"note": "é"}))

    assert list(reply) == ["digit", "probability", "probabilities", "note", "model"]
    np.testing.assert_allclose(reply["probabilities"], probabilities, 1e-6, 1e-300)
    assert reply["probability"] == 0.3333333
    assert (reply["digit"], reply["note"]) == (2, "é")
    assert reply["model"] == classifier.version


def test_probabilities_of_one_and_zero_are_written_as_floats(classifier):
    text = prediction(classifier, scores_of(np.eye(10)), 3).decode()

    assert '"digit":3,"probability":1.000000,' in text
    assert all(type(p) is float for p in json.loads(text)["probabilities"])


def test_several_predictions_and_errors_keep_their_order(classifier):
    rows = np.eye(10)[[4, 0, 2]]
    problem = {"status": 422, "detail": "blank"}

    reply = json.loads(predictions(classifier, scores_of(rows), {1: problem}))

    assert [slot.get("digit") for slot in reply["predictions"]] == [4, None, 2]
    assert reply["predictions"][1] == {"error": problem}


def test_a_model_of_some_digits_lists_its_classes_once():
    weight = np.zeros((784, 2), np.float32)
    binary = Classifier(weight, weight[0], (3, 8), "pixels")
    scores = scores_of([[0.4, 0.6]])

    for text in (prediction(binary, scores, 0), predictions(binary, scores, {})):
        assert json.loads(text)["classes"] == [3, 8]
    assert json.loads(prediction(binary, scores, 0))["digit"] == 8


def test_models_that_differ_in_their_version_alone_are_told_apart(classifier):
    weight, bias = classifier.weight, classifier.bias
    versions = ["1", "2", "1"]
    models = [
        Classifier(weight, bias, tuple(range(10)), classifier.features, version=version)
        for version in versions
    ]

    replies = [json.loads(prediction(model, scores_of(np.eye(10)), 0)) for model in models]

    assert [reply["model"] for reply in replies] == versions


def test_probability_of_being_a_digit_follows_that_of_the_digit(classifier):
    scores = scores_of(np.eye(10)[[4, 2]], [0.25, 1 / 3])

    text = prediction(classifier, scores, 1).decode()
    slots = json.loads(predictions(classifier, scores, {}))["predictions"]

    assert '"probability":1.000000,"is_digit":0.3333333,"probabilities":' in text
    assert [slot["is_digit"] for slot in slots] == [0.25, 0.3333333]
