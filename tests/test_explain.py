import io

import numpy as np
import pytest

from service.app import create_app
from service.classifier import Classifier
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
        told = explain(model, image)

        logits = model.logits(FEATURES[features](image[None]))[0]
        shares = np.array([region["logits"] for region in told["regions"]])
        bias = np.array(told["bias"])
        np.testing.assert_allclose(shares.sum(0) + bias, logits, atol=1e-4)
        np.testing.assert_allclose(told["logits"], logits, atol=1e-4)


@pytest.mark.parametrize("features", FEATURES)
def test_evidence_and_bias_difference_are_the_difference_of_the_logits(features, drawn):
    told = explain(classifier_of(features), drawn.test.images[0])

    answer, runner_up = told["answer"], told["runner_up"]
    evidence = sum(region["evidence"] for region in told["regions"])
    bias = told["bias"][answer] - told["bias"][runner_up]
    margin = told["logits"][answer] - told["logits"][runner_up]
    assert evidence + bias == pytest.approx(margin, abs=1e-4)
    assert sorted(told["logits"])[-2:] == [
        told["logits"][runner_up],
        told["logits"][answer],
    ]


@pytest.mark.parametrize("features", FEATURES)
def test_regions_lie_on_the_ink(features, drawn):
    """Together their outlines cover the digit, wherever it is and however slanted."""
    for image in drawn.test.images[:20]:
        corners = np.concatenate(
            [r["outline"] for r in explain(classifier_of(features), image)["regions"]]
        )
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert corners[:, 0].min() <= columns[0] + 3
        assert corners[:, 0].max() >= columns[-1] - 2
        assert corners[:, 1].min() <= rows[0] + 1
        assert corners[:, 1].max() >= rows[-1]


def test_service_explains_when_asked(drawn):
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
