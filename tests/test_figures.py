"""The recipes' figures on MNIST, one seed each; `make bench` measures five."""

import pytest

from service.classifier import load
from training.__main__ import main

RUNS = [
    (["--recipe", "article"], 0.9124, 0.9154),
    ([], 0.922, 0.93),
    (["--classes", "3,8"], 0.968, 0.98),
]


@pytest.mark.parametrize(("flags", "least", "most"), RUNS)
def test_recipe_reaches_its_figure(flags, least, most, mnist, tmp_path):
    path = tmp_path / "digits.safetensors"

    assert main([*flags, "--seed", "1", "--output", str(path)]) == 0

    evaluation = load(path).evaluation
    assert evaluation["data"] == "MNIST test"
    assert least <= evaluation["accuracy"] <= most
