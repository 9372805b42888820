"""The files that a run leaves, as the report reads them."""

import re
import shutil

import pytest

from training.data.dataset import InvalidData
from training.results.run_files import read_curve, read_trained

POINT = '{"epoch": 1, "step": 100, "learning_rate": 0.5, "loss": 0.25}\n'


def test_run_has_its_weights_and_the_curve_beside_them(weights):
    (run,) = read_trained([weights])

    assert run.path == weights
    assert run.classifier.classes == tuple(range(10))
    assert run.curve[-1]["epoch"] == 5
    assert run.curve[-1]["validation"]["nll"] > 0


def test_weights_without_a_curve_are_a_run_with_an_empty_curve(weights, tmp_path):
    shutil.copy(weights, tmp_path)

    (run,) = read_trained([tmp_path / weights.name])

    assert run.curve == []


def test_curve_of_another_run_in_the_same_folder_is_ignored(weights, tmp_path):
    copy = tmp_path / weights.name
    shutil.copy(weights, copy)
    curve = weights.with_name("metrics.jsonl").read_text()
    version = read_trained([weights])[0].classifier.version

    copy.with_name("metrics.jsonl").write_text(curve)
    assert read_trained([copy])[0].curve
    copy.with_name("metrics.jsonl").write_text(curve.replace(version, "0" * 12))
    assert read_trained([copy])[0].curve == []


def test_same_run_twice_is_refused_even_as_a_copy(weights, tmp_path):
    copy = tmp_path / "copy.safetensors"
    shutil.copy(weights, copy)

    for again in (weights, copy):
        words = re.escape(f"{again}: the same run as {weights}")
        with pytest.raises(InvalidData, match=words):
            read_trained([weights, again])


def test_missing_weights_among_several_are_named(weights, tmp_path):
    with pytest.raises(InvalidData, match="absent: no such file"):
        read_trained([weights, tmp_path / "absent"])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        '{"step": 1, "learning_rate": 1}',
        POINT.replace("0.25", '"low"'),
        POINT.replace("0.25", "NaN"),
        POINT.replace('"epoch": 1', '"validation": {}'),
        POINT.replace('"epoch": 1', '"validation": {"nll": null}'),
        "\udcff",
    ],
)
def test_broken_curve_is_named_with_its_line(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{POINT}{line}\n{POINT}".encode(errors="surrogateescape"))

    with pytest.raises(InvalidData, match=r"metrics\.jsonl, line 2: "):
        read_curve(path)
