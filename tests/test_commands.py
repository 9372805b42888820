"""The commands of python -m service, each run as a subprocess."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.classifier import Classifier, load, save
from service.images import read_image
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT, encode
from tests.web.conftest import with_detector

DIGIT = ROOT / "docs" / "digit.png"


def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_read_prints_the_digit_and_its_probability():
    result = run("read", DIGIT)

    assert (result.returncode, result.stderr) == (0, "")
    digit, probability, *_ = result.stdout.splitlines()
    assert digit == "digit: 5"
    assert 0.9 < float(probability.removeprefix("probability: ")) <= 1


def test_help_of_read_names_what_it_prints():
    result = run("read", "--help")

    assert result.returncode == 0
    printed = run("read", DIGIT).stdout
    for name in re.findall(r"^(\w+): ", printed, re.MULTILINE):
        assert name in " ".join(result.stdout.split())


def test_read_prints_the_probability_of_a_digit_or_refuses_what_is_none(tmp_path):
    shipped = load(EMBEDDED_WEIGHTS)
    path = tmp_path / "weights.safetensors"
    for log_odds, status in ((0.0, 0), (-4.0, 1)):
        save(with_detector(shipped, log_odds, 0.3), path)

        result = run("read", DIGIT, DIGITS_WEIGHTS=str(path))

        assert result.returncode == status
        if status:
            assert result.stderr == (
                "digits: this does not look like a digit (is_digit: 0.0180; nearest digit: 5)\n"
            )
        else:
            assert result.stdout.splitlines()[2:] == ["is_digit: 0.5000"]


def test_read_refuses_a_picture_of_several_digits(tmp_path, drawn):
    row = 255 - np.pad(np.concatenate(drawn.test.images[:3], axis=1), 14)
    path = tmp_path / "number.png"
    path.write_bytes(encode(row.repeat(4, 0).repeat(4, 1)))

    result = run("read", path)

    assert result.returncode == 1
    assert result.stderr == (
        "digits: the picture holds 3 digits; use `classify --several`, "
        "or send a picture of one digit\n"
    )


def test_read_uses_the_weights_of_the_setting(tmp_path):
    bias = np.log(np.array([1, 3], np.float32))
    path = tmp_path / "weights.safetensors"
    save(Classifier(np.zeros((784, 2), np.float32), bias, (8, 3), "pixels"), path)

    result = run("read", DIGIT, DIGITS_WEIGHTS=f"{tmp_path / 'missing'}:{path}")

    assert result.stdout == "digit: 3\nprobability: 0.7500\n"


def test_read_writes_every_stage_of_a_picture(tmp_path):
    folder = tmp_path / "new" / "stages"

    result = run("read", DIGIT, "--stages", folder)

    assert result.returncode == 0
    stages = ["decoded", "background", "ink", "mask", "digit", "28x28"]
    assert names(folder) == [f"{n}-{stage}.png" for n, stage in enumerate(stages, 1)]
    last = np.asarray(Image.open(folder / "6-28x28.png"))
    np.testing.assert_array_equal(last[::10, ::10], read_image(DIGIT.read_bytes()))
    mask = np.asarray(Image.open(folder / "4-mask.png"))
    assert set(np.unique(mask)) == {0, 255}


def test_read_writes_the_stages_that_the_documentation_shows(tmp_path):
    docs = ROOT / "docs" / "reading"

    result = run("read", docs / "photo.jpg", "--stages", tmp_path)

    assert result.stdout.startswith("digit: 5\n")
    assert [*names(tmp_path), "photo.jpg"] == names(docs)
    for path in tmp_path.iterdir():
        written, shown = Image.open(path), Image.open(docs / path.name)
        difference = np.asarray(written, float) - np.asarray(shown)
        assert np.abs(difference).mean() < 1, path.name
    page = (ROOT / "docs" / "reading-pictures.md").read_text()
    assert all(f"(reading/{name})" in page for name in names(docs))


def test_read_writes_the_stages_of_the_crop_around_a_small_digit(tmp_path):
    sheet = np.full((800, 600), 255, np.uint8)
    sheet[420:500, 300:306] = sheet[420:426, 280:330] = 0
    picture = tmp_path / "small.png"
    picture.write_bytes(encode(sheet))

    run("read", picture, "--stages", tmp_path / "stages")

    seen = ["background", "ink", "mask", "digit"]
    expected = ["decoded", *seen, "crop", *seen, "28x28"]
    assert names(tmp_path / "stages") == sorted(
        f"{n}-{stage}.png" for n, stage in enumerate(expected, 1)
    )


@pytest.mark.parametrize(
    ("picture", "reason", "stages"),
    [
        (Image.new("L", (40, 40), 200), "blank", ["1-decoded.png", "2-background.png"]),
        (Image.new("L", (1, 1), 200), "only 1 x 1 pixels", ["1-decoded.png"]),
    ],
)
def test_read_writes_the_stages_before_a_refusal(picture, reason, stages, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encode(picture))

    result = run("read", path, "--stages", tmp_path / "stages")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("digits: no digit found: ")
    assert reason in result.stderr
    assert names(tmp_path / "stages") == stages


@pytest.mark.parametrize(
    ("arguments", "settings", "reason"),
    [
        (["missing.png"], {}, "digits: missing.png: No such file or directory"),
        (["docs"], {}, "docs: Is a directory"),
        (["Makefile"], {}, "not a picture in a supported format"),
        ([DIGIT, "--stages", "Makefile"], {}, "Makefile: File exists"),
        ([DIGIT, "--stages", "Makefile/x"], {}, "Makefile/x: Not a directory"),
        ([DIGIT], {"DIGITS_WEIGHTS": "Makefile"}, "not a safetensors file"),
        ([DIGIT], {"DIGITS_MAX_PIXELS": "1024"}, "send at most 1,024"),
        ([DIGIT], {"DIGITS_MAX_PIXELS": "0"}, "DIGITS_MAX_PIXELS is '0'"),
    ],
)
def test_read_fails_with_one_line(arguments, settings, reason):
    result = run("read", *arguments, **settings)

    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("digits: ")
    assert reason in line


def test_settings_command_checks_the_weights():
    result = run("settings", DIGITS_WEIGHTS="Makefile")

    assert (result.returncode, result.stdout) == (1, "")
    assert "Makefile: not a safetensors file" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["write"], ["read"]])
def test_wrong_usage_is_explained_with_status_2(arguments):
    result = run(*arguments)

    assert result.returncode == 2
    assert "usage: python -m service" in result.stderr
