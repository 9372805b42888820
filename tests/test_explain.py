"""The evidence of each region of an image."""

import dataclasses
import io

import numpy as np
import pytest

from service.app import create_app
from service.classifier import Classifier, Detector
from service.explain import explain
from service.features import FEATURES, n_features
from tests.conftest import encode


def classifier_of(features: str) -> Classifier:
    generator = np.random.default_rng(2)
    weight = generator.normal(0, 0.3, (n_features(features), 10)).astype(np.float32)
    bias = generator.normal(size=10).astype(np.float32)
    return Classifier(weight, bias, tuple(range(10)), features)


@pytest.mark.parametrize("features", FEATURES)
def test_regions_and_bias_add_up_to_the_logits(features, drawn):
    model = classifier_of(features)
    for image in drawn.test.images[:20]:
        explanation = explain(model, image)

        logits = model.logits(FEATURES[features](image[None]))[0]
        shares = np.array([r["logits"] for r in explanation["regions"]])
        bias = np.array(explanation["bias"])
        np.testing.assert_allclose(shares.sum(0) + bias, logits, atol=1e-4)
        np.testing.assert_allclose(explanation["logits"], logits, atol=1e-4)


@pytest.mark.parametrize("features", FEATURES)
def test_evidence_and_bias_difference_are_the_difference_of_the_logits(features, drawn):
    explanation = explain(classifier_of(features), drawn.test.images[0])

    answer, runner_up = explanation["answer"], explanation["runner_up"]
    evidence = sum(region["evidence"] for region in explanation["regions"])
    bias, logits = explanation["bias"], explanation["logits"]
    margin = logits[answer] - logits[runner_up]
    assert evidence + bias[answer] - bias[runner_up] == pytest.approx(margin, abs=1e-4)
    assert sorted(logits)[-2:] == [logits[runner_up], logits[answer]]


def test_a_region_without_ink_has_no_evidence():
    image = np.zeros((28, 28), np.uint8)

    explanation = explain(classifier_of("stroke-waves"), image)

    assert all(region["evidence"] == 0 for region in explanation["regions"])
    assert explanation["bias"] == explanation["logits"]


@pytest.mark.parametrize("features", FEATURES)
def test_evidence_of_a_digit_adds_up_to_the_logit_of_its_probability(features, drawn):
    model, rng = classifier_of(features), np.random.default_rng(3)
    weight = rng.integers(-127, 128, model.weight.T.shape).astype(np.int8)
    scale, bias = rng.uniform(-0.002, 0.002, (2, 10)).astype(np.float32)
    model = dataclasses.replace(model, detector=Detector(weight, scale, bias, 0.1))
    for image in drawn.test.images[:20]:
        explanation = explain(model, image)

        evidence = sum(region["digit_evidence"] for region in explanation["regions"])
        logit = explanation["digit_logit"]
        assert evidence + explanation["digit_bias"] == pytest.approx(logit, abs=1e-4)
        (is_digit,) = model.score(image[None]).is_digit
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(is_digit, abs=1e-4)


def rows_and_columns(images: np.ndarray) -> np.ndarray:
    """A feature map of the sums of rows and columns: (n, 28, 28) -> (n, 56)."""
    sums = [images.sum(axis, dtype=np.float32) / 2550 for axis in (1, 2)]
    return np.concatenate(sums, axis=1)


def test_a_map_that_is_only_added_to_features_is_served_and_explained(drawn, monkeypatch):
    monkeypatch.setitem(FEATURES, "rows-and-columns", rows_and_columns)
    model = classifier_of("rows-and-columns")
    image = drawn.test.images[0]
    client = create_app(model).test_client()

    reply = client.post("/predict?explain=1", data=encode(image), content_type="image/png").json

    (region,) = reply["explanation"]["regions"]
    logits = model.logits(rows_and_columns(image[None]))[0]
    assert region["outline"] == [[0, 0], [28, 0], [28, 28], [0, 28]]
    np.testing.assert_allclose(region["logits"] + model.bias, logits, atol=1e-4)
    assert reply["digit"] == reply["explanation"]["answer"] == logits.argmax()


@pytest.mark.parametrize("features", FEATURES)
def test_regions_cover_the_ink(features, drawn):
    """Their outlines together cover the digit, at any place and slant."""
    for image in drawn.test.images[:20]:
        corners = np.concatenate(
            [r["outline"] for r in explain(classifier_of(features), image)["regions"]]
        )
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert corners[:, 0].min() <= columns[0] + 3
        assert corners[:, 0].max() >= columns[-1] - 2
        assert corners[:, 1].min() <= rows[0] + 1
        assert corners[:, 1].max() >= rows[-1]


@pytest.mark.parametrize("cell", [0, 5])
def test_evidence_of_waves_is_that_of_the_cell_whose_edges_they_are_of(cell, drawn):
    weight = np.zeros((9, n_features("stroke-waves") // 9, 10), np.float32)
    weight[cell, :, 3] = 0.1
    model = Classifier(
        weight.reshape(-1, 10), np.zeros(10, np.float32), tuple(range(10)), "stroke-waves"
    )

    regions = explain(model, drawn.test.images[0])["regions"]

    assert [i for i, region in enumerate(regions) if any(region["logits"])] == [cell]


def test_the_service_explains_on_request(drawn):
    client = create_app(classifier_of("stroke-edges")).test_client()
    image = drawn.test.images[3]

    def post(query: str):
        file = (io.BytesIO(encode(image)), "digit.png")
        return client.post(f"/predict{query}", data={"image": file})

    plain, explained = post("").json, post("?explain=1").json
    assert "explanation" not in plain
    assert "explanation" not in post("?explain=0").json
    assert explained["explanation"]["image"] == image.tolist()
    assert explained["explanation"]["answer"] == explained["digit"] == plain["digit"]
    refused = post("?explain=yes")
    assert refused.status_code == 400
    assert "explain is 'yes'; set it to 0 or 1" in refused.text
