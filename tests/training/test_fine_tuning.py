"""Training on your own digits from the weights that --init names."""

import dataclasses

import numpy as np
import pytest
import torch

from service.classifier import load, save
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import write_arrays
from training.__main__ import main
from training.data.dataset import DataSet
from training.results.export import of_classes, to_classifier, to_theta

STRICT = 0.9  # a threshold of P(digit)


@pytest.fixture(scope="module")
def own(drawn, tmp_path_factory) -> str:
    """A folder of digits that lean by 45°."""
    folder = tmp_path_factory.mktemp("own")
    parts = [leaning(part.rows(0, n)) for part, n in ((drawn.train, 160), (drawn.test, 200))]
    write_arrays(DataSet("own", *parts), folder)
    return str(folder)


def leaning(digits):
    rows = [np.roll(digits.images[:, y], y - 14, axis=1) for y in range(28)]
    return dataclasses.replace(digits, images=np.stack(rows, axis=1))


@pytest.fixture
def initial(tmp_path):
    """The weights that ship, with a threshold that refuses some digits."""
    shipped, path = load(EMBEDDED_WEIGHTS), tmp_path / "initial.safetensors"
    detector = dataclasses.replace(shipped.detector, threshold=STRICT)
    save(dataclasses.replace(shipped, detector=detector), path)
    return path


def test_few_digits_on_top_of_weights_are_read_better_than_by_either_alone(
    own, initial, drawn, tmp_path, capsys
):
    path = tmp_path / "w"
    assert main(["--data", own, "--init", str(initial), "--output", str(path)]) == 0

    out = capsys.readouterr().out
    tuned, before = load(path), load(initial)
    assert f"starting from {initial} ({before.version})" in out
    assert tuned.training["init"] == before.version
    assert tuned.training["recipe"] == "fine-tuning"
    assert tuned.training["drawn"] == tuned.training["augment"] == 0
    others = leaning(drawn.train.rows(200, 600))
    accuracy = [
        (each.predict_proba(others.images).argmax(1) == others.labels).mean()
        for each in (before, tuned)
    ]
    assert accuracy[1] > accuracy[0]
    # what the weights knew is not lost
    known = drawn.train.rows(200, 600)
    accuracy = [
        (each.predict_proba(known.images).argmax(1) == known.labels).mean()
        for each in (before, tuned)
    ]
    assert accuracy[1] > accuracy[0] - 0.02


def test_detector_is_kept_and_its_threshold_only_lowered(own, initial, drawn, tmp_path, capsys):
    path = tmp_path / "w"
    assert main(["--data", own, "--init", str(initial), "--output", str(path)]) == 0

    kept, before = load(path).detector, load(initial).detector
    for name in ("weight", "scale", "bias"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(before, name))
    assert kept.threshold < before.threshold
    printed = f"P(digit) below {kept.threshold} are refused, lowered from {STRICT}\n"
    assert printed in capsys.readouterr().out
    assert load(path).evaluation["refused"] < 0.05


def test_low_threshold_of_the_initial_weights_is_printed_once(own, tmp_path, capsys):
    initial, path = tmp_path / "initial.safetensors", tmp_path / "w"
    shipped = load(EMBEDDED_WEIGHTS)
    detector = dataclasses.replace(shipped.detector, threshold=1e-6)
    save(dataclasses.replace(shipped, detector=detector), initial)

    assert main(["--data", own, "--init", str(initial), "--output", str(path)]) == 0

    printed = capsys.readouterr().out
    assert "\npictures with P(digit) below 1e-06 are refused, as before\n" in printed
    assert load(path).detector.threshold == 1e-6


def test_no_step_leaves_the_weights_as_they_are(own, initial, tmp_path):
    path = tmp_path / "w"
    flags = ["--data", own, "--init", str(initial), "--learning-rate", "1e-30", "--epochs", "1"]
    assert main([*flags, "--output", str(path)]) == 0

    np.testing.assert_allclose(load(path).weight, load(initial).weight, atol=1e-6)
    np.testing.assert_allclose(load(path).bias, load(initial).bias, atol=1e-4)


def test_some_classes_of_the_weights_are_tuned_alone(own, initial, tmp_path):
    path = tmp_path / "w"
    flags = ["--data", own, "--init", str(initial), "--classes", "3,8"]
    assert main([*flags, "--output", str(path)]) == 0

    assert load(path).classes == (3, 8)
    assert load(path).detector.weight.shape == (2, len(load(path).weight))


def test_digits_of_some_classes_tune_the_weights_of_all(drawn, initial, tmp_path):
    folder, path = tmp_path / "sevens", tmp_path / "w"
    folder.mkdir()
    parts = [part.of_classes((1, 7)) for part in (drawn.train, drawn.test)]
    parts = [dataclasses.replace(part, labels=np.where(part.labels, 7, 1)) for part in parts]
    write_arrays(DataSet("sevens", *parts), folder)

    assert main(["--data", str(folder), "--init", str(initial), "--output", str(path)]) == 0

    tuned, before = load(path), load(initial)
    assert tuned.classes == tuple(range(10))
    right = [
        (each.predict_proba(drawn.test.images).argmax(1) == drawn.test.labels).mean()
        for each in (before, tuned)
    ]
    assert right[1] > right[0] - 0.05


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--init", "/absent"], "/absent: No such file"),
        (["--features", "pixels"], "--features pixels: the initial weights have stroke-waves"),
        (["--recipe", "pixels", "--features", "pixels"], "the initial weights have stroke-waves"),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused(flags, words, own, initial, tmp_path, capsys):
    given = ["--data", own, "--init", str(initial), *flags, "--output", str(tmp_path / "w")]

    assert main(given) == 1

    assert words in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_class_that_the_initial_weights_lack_is_refused(own, initial, tmp_path, capsys):
    pair = tmp_path / "pair"
    save(of_classes(load(initial), (3, 8)), pair)
    given = ["--data", own, "--init", str(pair), "--classes", "3,5"]

    assert main([*given, "--output", str(tmp_path / "w")]) == 1

    assert "the initial weights have no class 5" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (7, 2, 5), (3, 8)])
def test_theta_of_a_classifier_makes_the_classifier_again(classes, drawn):
    some = of_classes(load(EMBEDDED_WEIGHTS), classes)
    centre = torch.rand(len(some.weight) + 1, generator=torch.Generator().manual_seed(0))

    theta = to_theta(some, centre)
    again = to_classifier(theta, classes, some.features, {}, centre)

    images = drawn.test.images[:20]
    np.testing.assert_allclose(again.predict_proba(images), some.predict_proba(images), atol=1e-4)


def test_interrupted_fine_tuning_resumes_only_from_the_same_weights(own, initial, tmp_path, capsys):
    path = tmp_path / "w"
    flags = ["--data", own, "--output", str(path), "--resume"]
    assert main([*flags, "--init", str(initial)]) == 0
    assert main([*flags, "--init", str(initial)]) == 0
    assert "already finished" in capsys.readouterr().out
