"""What README and docs show is what happens: commands and their output."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.classifier import load
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT, Service, running_service
from tests.seams.documents import (
    API,
    BATCH,
    HERE,
    OF_TODAY,
    OPERATIONS,
    README,
    TRAINING,
    blocks,
    differences,
    examples,
    output_of,
)
from training.__main__ import main
from training.data.dataset import DataSet


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that keeps corrections."""
    kept = tmp_path_factory.mktemp("corrections")
    with running_service(DIGITS_FEEDBACK_DIR=str(kept)) as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the commands find the repository and leave their files."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize("page", [README, API, BATCH, OPERATIONS], ids=lambda page: page.stem)
def test_commands_that_are_shown_have_the_output_that_is_shown(page, service, keeping, folder):
    wrong = {}
    for example in examples(page):  # in order: one may read what another has written
        url = (keeping if "/feedback" in example.command else service).url
        output = output_of(example.command.replace(HERE, url), folder)
        if example.kind == "json":
            found = differences(json.loads(example.output), json.loads(output))
        else:
            shown, printed = example.output.strip(), output.strip().replace("\r", "")
            found = differences(shown, printed) if example.kind else []
        if found:
            wrong[example.command] = found

    assert wrong == {}


def test_examples_cover_the_api():
    commands = "".join(example.command for example in examples(API))

    assert len(examples(API)) >= 12
    for word in ("explain=1", "timing=1", "x-npy", "octet-stream", "/model", "/readyz"):
        assert word in commands, word


def training_commands() -> list[list[str]]:
    """List what follows `python -m training`, or stands in ARGS, in all pages."""
    found = []
    for page in OF_TODAY:
        text = "".join(block.text for block in blocks(page) if block.kind == "sh")
        found += re.findall(r'make train ARGS="([^"]+)"', text)
        found += re.findall(r"^python -m training([^#\n]*)", text, re.MULTILINE)
    # test_feedback.py runs the one for corrections
    return sorted({tuple(shlex.split(each)) for each in found if "--feedback" not in each})


@pytest.fixture(scope="module")
def few_digits(drawn: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set, in a folder that has the name of a large one."""
    folder = tmp_path_factory.mktemp("data") / "MNIST"
    folder.mkdir()
    for part, digits in (("train", drawn.train), ("test", drawn.test)):
        np.save(folder / f"{part}-images.npy", digits.images)
        np.save(folder / f"{part}-labels.npy", digits.labels)
    return folder


@pytest.mark.parametrize("arguments", training_commands(), ids=" ".join)
def test_training_command_that_is_shown_runs(arguments, few_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--data", str(few_digits)]
    if "check" not in arguments:
        small += ["--epochs", "1", "--augment", "0", "--drawn", "0", "--non-digits", "0"]

    assert main([*arguments, *small]) == 0


def test_checked_gradients_are_laid_out_as_shown(few_digits, capsys):
    (shown,) = (b.text for b in blocks(TRAINING) if "worst error" in b.text)

    assert main(["check", "--data", str(few_digits)]) == 0

    found = capsys.readouterr().out
    assert found.splitlines()[0] == shown.splitlines()[0]
    assert [line.split()[0] for line in found.splitlines()] == [
        line.split()[0] for line in shown.splitlines()
    ]


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_figures_that_are_shown_are_those_of_the_weights_that_ship():
    shipped = load(EMBEDDED_WEIGHTS)
    readme = README.read_text()
    detector = shipped.detector
    assert detector is not None
    arrays = shipped.weight, shipped.bias, detector.weight, detector.bias
    n_parameters = sum(array.size for array in arrays)
    kilobytes = round(EMBEDDED_WEIGHTS.stat().st_size / 1e3)

    assert f"{n_parameters:,} parameters in a {kilobytes} KB file" in readme
    assert f"{100 * shipped.evaluation['accuracy']:.1f} % on MNIST" in readme
    accuracy = f"{shipped.evaluation['accuracy']:.4f}, what the job reported"
    assert accuracy in (ROOT / "docs" / "benchmarks.md").read_text()


def test_citation_names_the_newest_version():
    citation = (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()

    (version,) = re.findall(r"^version: (.+)$", citation, re.MULTILINE)
    assert re.findall(r"^## \[([\d.]+)\]", changelog, re.MULTILINE)[0] == version
    assert re.search(r"^cff-version: 1\.2\.0$", citation, re.MULTILINE)
