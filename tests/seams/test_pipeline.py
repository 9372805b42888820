"""The seam between training and serving: what was learned is what is answered."""

import io

import numpy as np

from service.app import create_app
from service.classifier import load
from tests.conftest import encode
from training.__main__ import main


def test_posted_digits_get_the_probabilities_the_job_computed(
    tmp_path, drawn, monkeypatch
):
    path = tmp_path / "digits.safetensors"
    main(["--data", "synthetic", "--epochs", "3", "--output", str(path)])
    monkeypatch.setenv("DIGITS_WEIGHTS", str(path))
    client = create_app().test_client()

    images = drawn.test.images[:50]
    replies = [
        client.post(
            "/predict", data={"image": (io.BytesIO(encode(image)), "d.png")}
        ).json
        for image in images
    ]

    expected = load(path).predict_proba(images)
    answered = np.array([reply["probabilities"] for reply in replies])
    # alone and in a batch, float32 adds up in another order
    np.testing.assert_allclose(answered, expected, rtol=1e-4, atol=1e-9)
    assert [reply["digit"] for reply in replies] == expected.argmax(1).tolist()


def test_test_digits_posted_as_png_are_read_as_well_as_the_job_reported(mnist):
    """All 10,000, over HTTP's own code path, on the weights that ship."""
    client = create_app().test_client()

    right = 0
    for image, label in zip(mnist.test.images, mnist.test.labels, strict=True):
        reply = client.post("/predict", data=encode(image), content_type="image/png")
        right += reply.json["digit"] == label

    assert right / 10_000 == client.get("/model").json["evaluation"]["accuracy"]
