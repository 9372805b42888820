"""The accuracy of each recipe on MNIST, with one seed; `make bench` runs five."""

import pytest

from benchmarks.uploads import MNIST_FOLDER
from service.classifier import load
from training.__main__ import main

RUNS = [
    (["--recipe", "article"], 0.9124, 0.9154),
    pytest.param(["--recipe", "pixels"], 0.922, 0.93, marks=pytest.mark.slow),
    (["--recipe", "pixels", "--classes", "3,8"], 0.968, 0.98),
    pytest.param(*([], 0.993, 1.0), marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


@pytest.mark.parametrize(("flags", "least", "most"), RUNS)
def test_recipe_reaches_its_figure(flags, least, most, mnist, tmp_path):
    path = tmp_path / "digits.safetensors"

    source = ["--data", str(MNIST_FOLDER)]
    assert main([*flags, *source, "--seed", "1", "--output", str(path)]) == 0

    evaluation = load(path).evaluation
    assert evaluation["data"] == "MNIST test"
    assert least <= evaluation["accuracy"] <= most
    if not flags:
        assert evaluation["nll"] <= 0.023
        assert evaluation["ece"] <= 0.004
