import base64
import re
import xml.etree.ElementTree as ElementTree

import pytest

from service.classifier import load
from training.__main__ import main

TITLES = [
    "How good it is",
    "How it was trained",
    "What is taken for what",
    "Digit by digit",
    "Whether it is as sure as it should be",
    "What refusing the unsure gains",
    "Its worst mistakes",
    "What the weights look for",
    "Digits as people post them",
]


@pytest.mark.parametrize("recipe", ["pixels", "default"])
def test_report_is_one_page_with_every_figure_and_nothing_from_elsewhere(
    recipe, tmp_path, capsys
):
    weights, page = tmp_path / "w.safetensors", tmp_path / "report.html"
    flags = ["--data", "synthetic", "--rows", "300", "--epochs", "1"]
    main([*flags, "--recipe", recipe, "--output", str(weights)])

    status = main(
        ["report", str(weights), "--data", "synthetic", "--output", str(page)]
    )

    text = page.read_text()
    assert status == 0
    assert re.findall("<h2>(.*?)</h2>", text) == TITLES
    assert f"{load(weights).evaluation['accuracy']:.4f}" in text
    images = re.findall(r'src="data:image/svg\+xml;base64,(.*?)"', text)
    assert len(images) >= 5
    for image in images:
        ElementTree.fromstring(base64.b64decode(image))
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert str(page) in capsys.readouterr().out


def test_report_without_weights_says_so(tmp_path, capsys):
    assert (
        main(["report", str(tmp_path / "absent"), "--output", str(tmp_path / "r")]) == 1
    )
    assert "absent: No such file" in capsys.readouterr().err
