import json

import numpy as np
import pytest

from service.classifier import Classifier
from service.web.prediction_json import Replies


@pytest.fixture
def replies(classifier) -> Replies:
    return Replies(classifier)


def test_reply_is_json_of_the_probabilities_to_seven_digits(replies, classifier):
    probabilities = np.array([1e-320, 1e-17, 1 / 3, 0.2, 0.1, 0, 0.3, 1e-9, 0.05, 0.01])

    reply = json.loads(replies.one(probabilities, note="é"))

    assert list(reply) == ["digit", "probability", "probabilities", "note", "model"]
    np.testing.assert_allclose(reply["probabilities"], probabilities, 1e-6, 1e-300)
    assert reply["probability"] == 0.3333333
    assert (reply["digit"], reply["note"]) == (2, "é")
    assert reply["model"] == classifier.version


def test_probability_of_one_or_nothing_is_a_float_in_the_text(replies):
    text = replies.one(np.eye(10)[3]).decode()

    assert '"digit":3,"probability":1.000000,' in text
    assert all(type(p) is float for p in json.loads(text)["probabilities"])


def test_many_keep_their_order_and_errors_their_place(replies):
    rows = np.eye(10)
    problem = {"status": 422, "detail": "blank"}

    reply = json.loads(replies.many([rows[4], problem, rows[2]]))

    assert [slot.get("digit") for slot in reply["predictions"]] == [4, None, 2]
    assert reply["predictions"][1] == {"error": problem}


def test_other_classes_are_named_once():
    weight = np.zeros((784, 2), np.float32)
    replies = Replies(Classifier(weight, weight[0], (3, 8), "pixels"))

    for text in (replies.one(np.array([0.4, 0.6])), replies.many([np.eye(2)[0]])):
        assert json.loads(text)["classes"] == [3, 8]
    assert json.loads(replies.one(np.array([0.4, 0.6])))["digit"] == 8
