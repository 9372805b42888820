"""Trained weights as the file of the service."""

import numpy as np
import pytest
import torch

from service.classifier import InvalidWeights, load
from training.descent import xavier
from training.results.evaluation import evaluate
from training.results.export import export, to_classifier


def test_binary_model_has_the_same_probabilities_as_two_columns(drawn):
    theta = xavier(784, 1, seed=3)
    theta[0, -1] = 0.3
    pair = to_classifier(theta, (3, 8), "pixels", {})
    images = drawn.test.images[:50]

    probabilities = pair.predict_proba(images)

    phi = torch.from_numpy(images.reshape(-1, 784) / np.float32(255))
    sigmoid = torch.sigmoid(phi @ theta[0, :-1] + 0.3).numpy()
    np.testing.assert_allclose(probabilities[:, 1], sigmoid, rtol=1e-5, atol=1e-7)
    assert not pair.weight[:, 0].any()
    assert pair.bias[0] == 0


def test_centre_and_temperature_are_folded_into_the_weights(drawn):
    theta, centre = xavier(784, 10, seed=3), torch.rand(785)
    images = drawn.test.images[:50]

    folded = to_classifier(theta, tuple(range(10)), "pixels", {}, centre, 2.0)

    phi = torch.from_numpy(images.reshape(-1, 784) / np.float32(255))
    logits = (phi - centre[:-1]) @ theta[:, :-1].T + theta[:, -1]
    expected = torch.softmax(logits / 2, 1).numpy()
    np.testing.assert_allclose(folded.predict_proba(images), expected, rtol=1e-4)


def test_evaluation_in_the_file_is_that_of_its_own_predictions(drawn, tmp_path):
    classifier = to_classifier(xavier(784, 10, 0), tuple(range(10)), "pixels", {})
    path = tmp_path / "w.safetensors"

    saved = export(classifier, drawn.test, "some test", path)

    loaded = load(path)
    figures = evaluate(loaded.predict_proba(drawn.test.images), drawn.test.labels)
    assert loaded.evaluation == {"data": "some test", **figures}
    assert saved.version == loaded.version
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_invalid_weights_do_not_replace_a_file(drawn, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"what was there")
    theta = torch.full((10, 785), torch.nan)

    with pytest.raises(InvalidWeights, match="finite"):
        export(to_classifier(theta, tuple(range(10)), "pixels", {}), drawn.test, "some test", path)

    assert path.read_bytes() == b"what was there"
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
