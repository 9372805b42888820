"""The HTML report of a run."""

import base64
import re
import xml.etree.ElementTree as ElementTree

import pytest

from service.classifier import load
from training.__main__ import main

TITLES = [
    "Test metrics",
    "Training curve",
    "Confusion matrix",
    "Precision and recall",
    "Calibration",
    "Accuracy against coverage",
    "Most confident mistakes",
    "What each class responds to",
    "Accuracy on corrupted digits",
]


pytestmark = pytest.mark.usefixtures("few_corrupted")


def train(source, path, *flags):
    small = ["--rows", "300", "--epochs", "1", "--drawn", "0", "--augment", "0"]
    flags = [*small, "--non-digits", "0", *flags]
    assert main(["--data", source, *flags, "--output", str(path)]) == 0


@pytest.mark.parametrize("recipe", ["pixels", "default"])
def test_report_is_one_self_contained_page_with_every_figure(recipe, source, tmp_path, capsys):
    weights, page = tmp_path / "w.safetensors", tmp_path / "report.html"
    train(source, weights, "--recipe", recipe)

    status = main(["report", str(weights), "--data", source, "--output", str(page)])

    text = page.read_text()
    assert status == 0
    assert re.findall("<h2>(.*?)</h2>", text) == TITLES
    figures = load(weights).evaluation
    for name in ("accuracy", "nll", "brier", "ece"):
        assert f"<td>{figures[name]:.4f}</td>" in text
    images = re.findall(r'src="data:image/svg\+xml;base64,(.*?)"', text)
    assert len(images) >= 5 + (figures["accuracy"] < 1)  # the last shows mistakes
    for image in images:
        ElementTree.fromstring(base64.b64decode(image))
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert str(page) in capsys.readouterr().out


def test_model_card_beside_the_report_has_the_figures_of_the_weights_file(source, tmp_path, capsys):
    weights = tmp_path / "w.safetensors"
    train(source, weights, "--recipe", "pixels", "--classes", "7,1")
    flags = ["--data", source, "--output", str(tmp_path / "report.html")]

    status = main(["report", str(weights), *flags])

    saved, out = load(weights), capsys.readouterr().out
    assert status == 0
    text = (tmp_path / "model-card.md").read_text()
    assert f"# Model {saved.version}\n" in text
    assert f"| {saved.training['sha256']} |" in text
    assert f"| {saved.evaluation['nll']:.4f} |" in text
    for name in ("report.html", "model-card.md"):
        assert str(tmp_path / name) in out


def test_several_runs_are_compared_on_one_page_without_loading_data(source, tmp_path, capsys):
    paths = [tmp_path / name / "w.safetensors" for name in ("slow", "$x^$")]
    for path, rate in zip(paths, ("0.1", "0.5"), strict=True):
        train(source, path, "--recipe", "pixels", "--learning-rate", rate)
    page = tmp_path / "report.html"

    names = [str(path) for path in paths]
    status = main(["report", *names, "--data", "/absent", "--output", str(page)])

    text = page.read_text()
    assert status == 0
    assert re.findall("<h2>(.*?)</h2>", text) == ["Metrics and hyperparameters", "Training curves"]
    assert "<td>learning_rate</td><td>0.1</td><td>0.5</td>" in text
    out = capsys.readouterr().out
    assert all(name in out for name in (*names, str(page)))
    assert not (tmp_path / "model-card.md").exists()


@pytest.mark.parametrize("given", [["absent"], []])
def test_missing_weights_are_named(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["report", *given]) == 1

    (name,) = given or ["digits.safetensors"]
    expected = f"{name}: no such file; train first, or name a weights file"
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("digits.safetensors", "digits.safetensors"),
        ("model-card.md", "model-card.md"),
        ("below/report.html", "below/model-card.md"),
    ],
)
def test_report_that_would_overwrite_its_inputs_is_not_started(
    name, refused, weights, tmp_path, capsys
):
    own = tmp_path / "digits.safetensors"
    own.write_bytes(weights.read_bytes())
    (tmp_path / "below" / "model-card.md").mkdir(parents=True)

    status = main(["report", str(own), "--output", str(tmp_path / name)])

    assert status == 1
    err = capsys.readouterr().err
    assert "--output: " in err
    assert str(tmp_path / refused) in err
    assert load(own).version == load(weights).version
    assert {path.name for path in tmp_path.rglob("*")} == {
        "digits.safetensors",
        "below",
        "model-card.md",
    }
