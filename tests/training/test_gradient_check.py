"""The gradient check, which must find a wrong gradient."""

import numpy as np
import pytest
import torch

from training.__main__ import main
from training.gradient_check import TOLERANCE, worst
from training.gradients import gradients_of, of_softmax


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(4)
    theta, phi = (torch.randn(n, 9, generator=generator).double() for n in (3, 40))
    return theta, phi, torch.arange(40) % 3


@pytest.mark.parametrize("way", gradients_of(10))
def test_right_gradient_passes(way, problem):
    check = worst(gradients_of(10)[way], *problem, 27, torch.Generator())

    assert 0 < check.error < TOLERANCE / 10
    assert check.derivative == pytest.approx(check.quotient, abs=1e-7)


def test_one_wrong_derivative_is_found_and_located(problem):
    def wrong(theta, phi, labels):
        j, g = of_softmax(theta, phi, labels)
        g[2, 5] *= 1 + 1e-4
        return j, g

    check = worst(wrong, *problem, 27, torch.Generator())

    assert (check.row, check.column) == (2, 5)
    assert check.error > TOLERANCE


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "64 rows of synthetic, pixels, θ (10, 785)"),
        (["--classes", "3,8"], "64 rows of synthetic, pixels, θ (1, 785)"),
        (
            ["--features", "stroke-edges", "--batch-size", "5"],
            "5 rows of synthetic, stroke-edges, θ (10, 721)",
        ),
    ],
)
def test_command_checks_the_gradients_on_the_users_digits(flags, words, synthetic, capsys):
    given = ["check", "--data", synthetic, "--derivatives", "50", *flags]

    assert main(given) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == words
    assert [line.split()[0] for line in lines[2:]] == list(gradients_of(10))
    assert all(float(line.split()[1]) < TOLERANCE for line in lines[2:])


def test_check_without_rows_is_an_error(tmp_path, drawn, capsys):
    few = drawn.train.of_classes((0, 1))
    for part in ("train", "test"):
        np.save(tmp_path / f"{part}-images.npy", few.images)
        np.save(tmp_path / f"{part}-labels.npy", few.labels)

    assert main(["check", "--data", str(tmp_path), "--classes", "5,6"]) == 1
    assert "no training rows of these classes" in capsys.readouterr().err


def test_command_fails_if_an_error_exceeds_the_tolerance(synthetic, monkeypatch, capsys):
    monkeypatch.setattr("training.commands.TOLERANCE", 1e-30)

    assert main(["check", "--data", synthetic, "--derivatives", "9"]) == 1
    assert "autograd and closed-form: off by more than" in capsys.readouterr().err
