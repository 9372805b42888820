import base64
import json
import pickle
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from service.classifier import load
from training.__main__ import main

TITLES = [
    "How good it is",
    "How it was trained",
    "How each rule descends",
    "What is taken for what",
    "Digit by digit",
    "Whether it is as sure as it should be",
    "What refusing the unsure gains",
    "Its worst mistakes",
    "What the weights look for",
    "Digits as people post them",
]


@pytest.fixture(scope="module")
def source(drawn, tmp_path_factory):
    """The drawn digits as a file: to read it takes less time than to draw them."""
    parts = [
        (d.images.reshape(-1, 784) / np.float32(256), d.labels.astype(int))
        for d in (drawn.train, drawn.train, drawn.test.rows(0, 60))
    ]
    path = tmp_path_factory.mktemp("source") / "mnist.pkl.gz"
    path.write_bytes(pickle.dumps(tuple(parts)))
    return str(path)


def train(source, path, *flags):
    flags = ["--rows", "300", "--epochs", "1", "--drawn", "0", "--augment", "0", *flags]
    assert main(["--data", source, *flags, "--output", str(path)]) == 0


@pytest.mark.parametrize("recipe", ["pixels", "default"])
def test_report_is_one_page_with_every_figure_and_nothing_from_elsewhere(
    recipe, source, tmp_path, capsys
):
    weights, page = tmp_path / "w.safetensors", tmp_path / "report.html"
    train(source, weights, "--recipe", recipe)

    status = main(["report", str(weights), "--data", source, "--output", str(page)])

    text = page.read_text()
    assert status == 0
    assert re.findall("<h2>(.*?)</h2>", text) == TITLES
    figures = load(weights).evaluation
    assert f"{figures['accuracy']:.4f}" in text
    confused = np.tril(figures["confusion"], -1) + np.triu(figures["confusion"], 1).T
    pair = re.search(r"(\d) and (\d) are the two digits that it confuses most", text)
    assert confused[int(pair[2]), int(pair[1])] == confused.max() > 0
    images = re.findall(r'src="data:image/svg\+xml;base64,(.*?)"', text)
    assert len(images) >= 6
    for image in images:
        ElementTree.fromstring(base64.b64decode(image))
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert str(page) in capsys.readouterr().out


def test_model_card_beside_the_report_has_the_figures_of_the_weights_file(
    source, tmp_path, capsys
):
    weights = tmp_path / "w.safetensors"
    train(source, weights, "--recipe", "pixels", "--classes", "7,1")
    flags = ["--data", source, "--output", str(tmp_path / "report.html")]

    status = main(["report", str(weights), *flags])

    facts = json.loads((tmp_path / "model-card.json").read_text())
    told, out = load(weights), capsys.readouterr().out
    assert status == 0
    assert facts["evaluation"] == told.evaluation
    assert facts["training"] == told.training
    assert facts["model"]["version"] == told.version
    text = (tmp_path / "model-card.md").read_text()
    assert f"| {told.evaluation['nll']:.4f} |" in text
    for name in ("report.html", "model-card.md", "model-card.json"):
        assert str(tmp_path / name) in out


def test_several_runs_are_compared_on_one_page_without_any_data(
    source, tmp_path, capsys
):
    paths = [tmp_path / name / "w.safetensors" for name in ("slow", "$x^$")]
    for path, rate in zip(paths, ("0.1", "0.5"), strict=True):
        train(source, path, "--recipe", "pixels", "--learning-rate", rate)
    page = tmp_path / "report.html"

    names = [str(path) for path in paths]
    status = main(["report", *names, "--data", "/absent", "--output", str(page)])

    text = page.read_text()
    assert status == 0
    assert re.findall("<h2>(.*?)</h2>", text) == [
        "Side by side",
        "How they were trained",
    ]
    assert "<td>learning_rate</td><td>0.1</td><td>0.5</td>" in text
    out = capsys.readouterr().out
    assert all(name in out for name in (*names, str(page)))
    assert not (tmp_path / "model-card.md").exists()


@pytest.mark.parametrize("given", [["absent"], []])
def test_report_without_weights_says_so(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["report", *given]) == 1

    (name,) = given or ["digits.safetensors"]
    assert f"{name}: No such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits.safetensors", "is what the report is on"),
        ("model-card.md", "is the place of the model card"),
        ("below/report.html", "below/model-card.json is in the way"),
    ],
)
def test_report_and_card_that_would_harm_what_is_there_are_not_begun(
    name, words, weights, tmp_path, capsys
):
    own = tmp_path / "digits.safetensors"
    own.write_bytes(weights.read_bytes())
    (tmp_path / "below" / "model-card.json").mkdir(parents=True)

    status = main(["report", str(own), "--output", str(tmp_path / name)])

    assert status == 1
    assert words in capsys.readouterr().err
    assert load(own).version == load(weights).version
    assert {path.name for path in tmp_path.rglob("*")} == {
        "digits.safetensors",
        "below",
        "model-card.json",
    }
