"""Training and serving agree: the service answers what the job computed."""

import io

import numpy as np
import pytest

from service.app import create_app
from service.classifier import load
from tests.conftest import encode


def test_posted_digits_get_the_probabilities_that_the_trained_weights_compute(
    weights, drawn, monkeypatch
):
    monkeypatch.setenv("DIGITS_WEIGHTS", str(weights))
    client = create_app().test_client()

    images = drawn.test.images[:50]
    replies = [
        client.post("/predict", data={"image": (io.BytesIO(encode(image)), "d.png")}).json
        for image in images
    ]

    expected = load(weights).predict_proba(images)
    answered = np.array([reply["probabilities"] for reply in replies])
    # float32 sums differ between one image and a batch: the order of addition does
    np.testing.assert_allclose(answered, expected, rtol=1e-4, atol=1e-9)
    assert [reply["digit"] for reply in replies] == expected.argmax(1).tolist()


@pytest.mark.slow
def test_posted_test_digits_reach_the_accuracy_that_the_job_reported(mnist):
    """Post all 10,000 to the application, with the embedded weights."""
    client = create_app().test_client()

    right = 0
    for image, label in zip(mnist.test.images, mnist.test.labels, strict=True):
        reply = client.post("/predict", data=encode(image), content_type="image/png")
        right += reply.json["digit"] == label

    assert right / 10_000 == client.get("/model").json["evaluation"]["accuracy"]
