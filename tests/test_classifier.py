"""The classifier and its weights file."""

import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from service.classifier import (
    MAX_WEIGHTS_BYTES,
    Classifier,
    Detector,
    InvalidWeights,
    load,
    save,
    softmax,
)
from service.features import pixels
from tests.conftest import ROOT

METADATA = {
    "format": "1",
    "features": "pixels",
    "classes": json.dumps(list(range(10))),
    "training": "{}",
    "evaluation": "{}",
}


WITH_DETECTOR = METADATA | {"format": "2", "digit_threshold": "0.25"}


def detecting() -> Classifier:
    """Return a classifier of pixels with a detector, both at random."""
    rng = np.random.default_rng(2)
    weight = rng.integers(-127, 128, (10, 784)).astype(np.int8)
    scale, bias = rng.uniform(0.001, 0.003, (2, 10)).astype(np.float32)
    detector = Detector(weight, scale, bias, 0.25)
    return Classifier(**arrays(), classes=tuple(range(10)), features="pixels", detector=detector)


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "weight": generator.normal(size=(784, 10)).astype(np.float32),
        "bias": generator.normal(size=10).astype(np.float32),
    }


def test_softmax_is_the_formula_and_sums_to_one():
    logits = np.random.default_rng(1).normal(size=(5, 10))

    probabilities = softmax(logits)

    e = np.exp(logits)
    np.testing.assert_allclose(probabilities, e / e.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)


def test_classifiers_compare_by_identity_and_can_be_hashed():
    one, other = (
        Classifier(**arrays(), classes=tuple(range(10)), features="pixels") for _ in range(2)
    )

    assert one == one
    assert len({one, other}) == 2


def test_softmax_of_huge_logits_does_not_overflow():
    np.testing.assert_array_equal(softmax(np.array([[1e4, 0.0]])), [[1, 0]])


def test_probabilities_are_the_softmax_of_the_features_times_the_weights(drawn):
    a = arrays()
    classifier = Classifier(**a, classes=tuple(range(10)), features="pixels")
    images = drawn.test.images[:20]

    logits = pixels(images).astype(np.float64) @ a["weight"] + a["bias"]

    np.testing.assert_allclose(
        classifier.predict_proba(images), softmax(logits), rtol=1e-3, atol=1e-7
    )


def test_an_image_gets_the_same_probabilities_alone_as_in_a_batch(classifier, drawn):
    images = drawn.test.images[:50]

    alone = np.concatenate([classifier.predict_proba(image[None]) for image in images])

    np.testing.assert_allclose(alone, classifier.predict_proba(images), atol=1e-6)


def test_probability_of_a_digit_is_the_sigmoid_of_the_read_classs_regression(drawn):
    classifier = detecting()
    images = drawn.test.images[:20]

    scores = classifier.score(images)

    features = pixels(images).astype(np.float64)
    detector, read = classifier.detector, scores.probabilities.argmax(axis=1)
    regressions = detector.weight * detector.scale[:, None].astype(np.float64)
    a = (features * regressions[read]).sum(axis=1) + detector.bias[read]
    np.testing.assert_allclose(scores.is_digit, 1 / (1 + np.exp(-a)), rtol=1e-4)
    np.testing.assert_array_equal(scores.probabilities, classifier.predict_proba(images))
    assert np.ptp(scores.is_digit) > 0.01
    assert len(set(read)) > 1


@pytest.mark.parametrize(("bias", "expected"), [(1e6, 1.0), (-1e6, 0.0)])
def test_an_extreme_logit_is_a_probability_of_0_or_1(bias, expected, drawn):
    detector = detecting().detector
    detector = dataclasses.replace(detector, bias=np.full(10, bias, np.float32))
    classifier = dataclasses.replace(detecting(), detector=detector)

    assert classifier.score(drawn.test.images[:3]).is_digit.tolist() == [expected] * 3


def test_an_image_gets_the_same_probability_of_a_digit_alone_as_in_a_batch(drawn):
    classifier, images = detecting(), drawn.test.images[:50]

    alone = np.concatenate([classifier.score(image[None]).is_digit for image in images])

    np.testing.assert_array_equal(alone, classifier.score(images).is_digit)


def test_a_classifier_without_detector_says_nothing_about_digits(drawn):
    classifier = Classifier(**arrays(), classes=tuple(range(10)), features="pixels")

    assert classifier.score(drawn.test.images[:2]).is_digit is None


def test_a_saved_detector_loads_as_it_was(tmp_path):
    original, path = detecting(), tmp_path / "w.safetensors"

    save(original, path)
    loaded = load(path)

    assert loaded.detector is not None
    np.testing.assert_array_equal(loaded.detector.weight, original.detector.weight)
    np.testing.assert_array_equal(loaded.detector.scale, original.detector.scale)
    np.testing.assert_array_equal(loaded.detector.bias, original.detector.bias)
    assert loaded.detector.threshold == 0.25


def test_saved_weights_load_as_they_were(tmp_path):
    original = Classifier(
        **arrays(),
        classes=(3, 1, 4, 5, 9, 2, 6, 8, 7, 0),
        features="pixels",
        training={"seed": 1},
        evaluation={"accuracy": 0.5},
    )
    path = tmp_path / "w.safetensors"

    save(original, path)
    loaded = load(path)

    np.testing.assert_array_equal(loaded.weight, original.weight)
    np.testing.assert_array_equal(loaded.bias, original.bias)
    assert loaded.classes == original.classes
    assert loaded.training == {"seed": 1}
    assert loaded.evaluation == {"accuracy": 0.5}
    assert loaded.version == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_torch_users_can_load_the_weights_file(tmp_path):
    a = arrays()
    save(Classifier(**a, classes=tuple(range(10)), features="pixels"), tmp_path / "w")

    tensors = safetensors.torch.load_file(tmp_path / "w")

    np.testing.assert_array_equal(tensors["weight"].numpy(), a["weight"])


def test_the_same_classifier_gives_the_same_bytes_in_every_process(weights, tmp_path):
    script = (
        "import sys; from pathlib import Path; from service.classifier import *; "
        "save(load(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    for i in range(4):
        command = [sys.executable, "-c", script, str(weights), str(tmp_path / str(i))]
        subprocess.run(command, cwd=ROOT, check=True)

    assert {p.read_bytes() for p in tmp_path.iterdir()} == {weights.read_bytes()}


def changed_arrays(**changes: np.ndarray) -> bytes:
    return safetensors.numpy.save(arrays() | changes, METADATA)


def changed_metadata(**changes: str) -> bytes:
    return safetensors.numpy.save(arrays(), METADATA | changes)


def changed_detector(metadata: dict[str, str] = WITH_DETECTOR, **changes: np.ndarray) -> bytes:
    detector = {"digit_weight": np.ones((10, 784), np.int8)}
    detector |= {name: np.ones(10, np.float32) for name in ("digit_scale", "digit_bias")}
    return safetensors.numpy.save(arrays() | detector | changes, metadata)


def not_finite() -> bytes:
    weight = arrays()["weight"]
    weight[5, 5] = np.nan
    return changed_arrays(weight=weight)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a safetensors file"),
        (b"\x00" * 100, "not a safetensors file"),
        (b"\xff" * 100, "not a safetensors file"),
        (pickle.dumps({"weight": [1]}), "not a safetensors file"),
        (changed_arrays()[:-1], "not a safetensors file"),
        (changed_arrays()[:200], "not a safetensors file"),
        (changed_arrays() + b"\0", "not a safetensors file"),
        (changed_arrays(extra=np.zeros(1, np.float32)), "arrays ['bias', 'extra'"),
        (safetensors.numpy.save({"weight": arrays()["weight"]}, METADATA), "arrays"),
        (changed_arrays(weight=np.zeros((784, 10))), "weight is float64"),
        (changed_arrays(weight=np.zeros((10, 784), np.float32)), "(10, 784)"),
        (changed_arrays(bias=np.zeros(9, np.float32)), "bias is float32 (9,)"),
        (not_finite(), "weight has a value that is not finite"),
        (safetensors.numpy.save(arrays()), "format None"),
        (changed_metadata(format="3"), "format '3', expected '1' or '2'"),
        (changed_metadata(format="2"), "expected ['bias', 'digit_bias'"),
        (changed_detector(METADATA), "arrays ['bias', 'digit_bias'"),
        (changed_detector(METADATA | {"format": "2"}), "bad metadata: KeyError"),
        (changed_detector(WITH_DETECTOR | {"digit_threshold": "true"}), "expected a number"),
        (changed_detector(WITH_DETECTOR | {"digit_threshold": "NaN"}), "not a finite number"),
        (changed_detector(WITH_DETECTOR | {"digit_threshold": "1.5"}), "threshold 1.5, expected"),
        (changed_detector(digit_weight=np.ones(784, np.int8)), "expected int8 (10, 784)"),
        (changed_detector(digit_weight=np.ones((10, 784), np.float32)), "expected int8"),
        (changed_detector(digit_bias=np.full(10, np.nan, np.float32)), "digit_bias has a value"),
        (changed_detector(digit_scale=np.full(10, 1e9, np.float32)), "digit_scale has a value"),
        (changed_metadata(features="magic"), "unknown feature map 'magic'; use pixels"),
        (changed_metadata(classes="[1, 1]"), "distinct"),
        (changed_metadata(classes="[7]"), "distinct"),
        (changed_metadata(classes="[1, 12]"), "distinct"),
        (changed_metadata(classes="{}"), "distinct"),
        (changed_metadata(classes="[["), "bad metadata"),
        (changed_metadata(classes="[" * 100_000), "bad metadata"),
        (changed_metadata(classes="[3, 8]"), "expected float32 (784, 2)"),
        (changed_metadata(training="[]"), "must be objects"),
        (changed_metadata(evaluation="oops"), "bad metadata"),
        (changed_metadata(evaluation='{"nll": NaN}'), "NaN is not a finite number"),
        (changed_metadata(evaluation='{"nll": [{"a": -Infinity}]}'), "-Infinity is not a finite"),
        (changed_metadata(training='{"rate": 1e999}'), "1e999 is not a finite number"),
        (changed_metadata(training='{"rows": 1' + "0" * 400 + "}"), "is not a finite number"),
        (changed_metadata(training='{"a":' * 20 + "1" + "}" * 20), "nested deeper than 16"),
        (changed_metadata(training='{"a":' * 600 + "1" + "}" * 600), "bad metadata"),
        (changed_metadata(training=json.dumps({"a": "x" * 70_000})), "at most 65,536"),
        (changed_metadata(format="9" * 1_000_000), "format '999"),
    ],
)
def test_a_file_that_cannot_be_served_is_refused_with_its_reason(content, reason, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)

    with pytest.raises(InvalidWeights) as caught:
        load(path)

    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_over_the_size_limit_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(100 * MAX_WEIGHTS_BYTES)

    with pytest.raises(InvalidWeights, match="larger than"):
        load(path)


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_missing_file_and_a_folder_are_refused_with_the_reason(name, tmp_path):
    with pytest.raises(InvalidWeights, match=r"No such file|Is a directory"):
        load(tmp_path / name)


def test_the_embedded_weights_load_with_their_evaluation():
    shipped = load(Path(ROOT / "service/weights/digits.safetensors"))

    assert shipped.classes == tuple(range(10))
    assert shipped.evaluation["data"] == "MNIST test"
    assert shipped.evaluation["n"] == 10_000
    assert shipped.training["data"] == "MNIST"
