"""Training on corrections, and the gate that refuses weights that are worse."""

import dataclasses

import numpy as np
import pytest

from service.classifier import load
from service.features import FEATURES
from service.feedback import keep
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import encode
from training.__main__ import main
from training.data.dataset import Digits, InvalidData
from training.data.feedback import load_feedback
from training.design.corrections import MAX_COPIES, SHARE, weighted
from training.results.evaluation import refused
from training.results.gate import TOLERANCE, WorseWeights, n_right, refuse_worse
from training.runs.acceptance import MARGIN, accepting


@pytest.fixture(scope="module")
def shipped():
    return load(EMBEDDED_WEIGHTS)


def correct(folder, images, digits, model="older"):
    folder.mkdir(exist_ok=True)
    for i, (image, digit) in enumerate(zip(images, digits, strict=True)):
        keep(folder, encode(image), digit, {"digit": 0, "model": model}, 1.8e9 + i)


def mirrored(digits: Digits) -> Digits:
    return dataclasses.replace(digits, images=digits.images[:, :, ::-1])


def of(digits: Digits, label: int, n: int, start: int = 0) -> Digits:
    rows = np.flatnonzero(digits.labels == label)[start : start + n]
    return Digits(digits.images[rows], digits.labels[rows])


def test_corrections_are_digits_with_the_model_that_answered(drawn, tmp_path):
    correct(tmp_path, drawn.test.images[:4], [3, None, 5, 7])
    correct(tmp_path, drawn.test.images[4:5], [9], model="newer")

    found = load_feedback(tmp_path)

    assert sorted(found.digits.labels) == [3, 5, 7, 9]
    assert found.digits.images.shape == (4, 28, 28)
    assert sorted(found.before("newer").labels) == [3, 5, 7]
    some = found.of_classes((5, 9))
    assert sorted(some.digits.labels) == [0, 1]
    assert len(some.before("newer")) == 1


def test_picture_that_cannot_be_read_any_more_is_left_out(drawn, tmp_path):
    correct(tmp_path, drawn.test.images[:2], [3, 4])
    first, _ = sorted(tmp_path.glob("*.png"))
    first.write_bytes(b"no picture")

    assert len(load_feedback(tmp_path).digits) == 1


@pytest.mark.parametrize("digits", [[], [None, None]])
def test_folder_without_corrections_to_a_digit_is_refused(drawn, tmp_path, digits):
    correct(tmp_path, drawn.test.images[: len(digits)], digits)

    with pytest.raises(InvalidData, match="has no corrections to a digit"):
        load_feedback(tmp_path)


def test_missing_folder_and_classes_without_corrections_are_one_line(
    source, drawn, tmp_path, capsys
):
    correct(tmp_path / "kept", drawn.test.images[:1], [3])
    flags = ["--data", source, "--init", "--output", str(tmp_path / "w")]

    assert main([*flags, "--feedback", str(tmp_path / "absent")]) == 1
    assert main([*flags, "--classes", "5,7", "--feedback", str(tmp_path / "kept")]) == 1

    first, second = capsys.readouterr().err.splitlines()
    assert first == f"digits-train: --feedback: {tmp_path}/absent: No such file or directory"
    assert second == "digits-train: --feedback: no corrections to the digits (5, 7)"


@pytest.mark.parametrize(("n", "n_rows"), [(1, 1_000), (10, 50_000), (1, 10**6), (100, 10)])
def test_corrections_count_a_share_of_the_rows(drawn, n, n_rows):
    digits = drawn.train.rows(0, n)

    rows = weighted(digits, n_rows, seed=1)

    assert len(rows) == n * max(1, min(MAX_COPIES, np.ceil(SHARE * n_rows / n)))
    np.testing.assert_array_equal(rows.images[:n], digits.images)
    np.testing.assert_array_equal(rows.labels, np.tile(digits.labels, len(rows) // n))
    np.testing.assert_array_equal(rows.images, weighted(digits, n_rows, seed=1).images)


def test_detector_accepts_corrected_digits_and_is_else_as_before(shipped, drawn):
    corrected = mirrored(of(drawn.train, 3, 10))
    features = FEATURES[shipped.features]
    threshold = shipped.detector.threshold
    least = np.log(threshold / (1 - threshold)) + MARGIN
    weight, bias = shipped.detector.models[3]
    assert (features(corrected.images) @ weight + bias < least).any()

    detector = accepting(shipped.detector, shipped, corrected, drawn.train)

    weight, bias = detector.models[3]
    assert (features(corrected.images) @ weight + bias > least - 0.5).all()  # after rounding
    others = np.arange(10) != 3
    np.testing.assert_array_equal(detector.weight[others], shipped.detector.weight[others])
    changed = dataclasses.replace(shipped, detector=detector)
    upside_down = drawn.train.images[:400, ::-1]
    before, after = (refused(each, upside_down).mean() for each in (shipped, changed))
    assert after == pytest.approx(before, abs=0.05)
    assert refused(changed, drawn.test.images).mean() <= refused(shipped, drawn.test.images).mean()


def test_gate_allows_what_is_lost_within_the_tolerance_and_no_older_correction(shipped, drawn):
    test = drawn.test.rows(0, 200)
    nothing = test.rows(0, 0)
    # reads every digit as 0
    worse = dataclasses.replace(shipped, bias=shipped.bias + np.eye(10, dtype=np.float32)[0] * 1e4)
    assert n_right(shipped, test) > 190

    refuse_worse(shipped, shipped, test, test)
    refuse_worse(shipped, worse, test, test)
    with pytest.raises(WorseWeights, match="digits of the test set are read"):
        refuse_worse(worse, shipped, test, nothing)
    with pytest.raises(WorseWeights, match=r"^nothing was saved: 0 of 1 .* of older corrections"):
        refuse_worse(worse, shipped, of(test, 0, 9), of(test, 7, 1))
    assert TOLERANCE * len(test) < 1


@pytest.mark.slow
def test_corrections_are_learnt_and_recorded(source, shipped, drawn, tmp_path, capsys):
    given, others = mirrored(of(drawn.train, 7, 10)), mirrored(of(drawn.train, 7, 30, start=10))
    assert n_right(shipped, others) < 10
    correct(tmp_path / "kept", given.images, given.labels.tolist(), model=shipped.version)
    path = tmp_path / "w"
    flags = ["--data", source, "--init", "--feedback", str(tmp_path / "kept")]

    assert main([*flags, "--output", str(path)]) == 0

    saved = load(path)
    assert n_right(saved, others) >= 27
    assert saved.training["recipe"] == "feedback"
    assert saved.training["feedback"]["n"] == 10
    assert "10 of 10 corrections are read right, " in capsys.readouterr().out


@pytest.mark.slow
def test_false_corrections_are_refused_and_the_old_weights_stay(source, drawn, tmp_path, capsys):
    path = tmp_path / "digits.safetensors"
    path.write_bytes(EMBEDDED_WEIGHTS.read_bytes())
    correct(tmp_path / "kept", of(drawn.train, 7, 40).images, [1] * 40)
    flags = ["--data", source, "--feedback", str(tmp_path / "kept"), "--learning-rate", "0.5"]

    assert main([*flags, "--init", str(path), "--output", str(path)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("digits-train: nothing was saved: ")
    assert path.read_bytes() == EMBEDDED_WEIGHTS.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["digits.safetensors", "kept"]
