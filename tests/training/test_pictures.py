"""The picture script of the tutorial: what it shows is true of its small model."""

import pytest
import torch

from benchmarks.pictures import (
    PAIR,
    ROUTES,
    alpha_of,
    draw_descents,
    hessian,
    minimum,
    one_feature,
    path_of,
)
from training.gradients import of_sigmoid


@pytest.fixture(scope="module")
def rows(drawn):
    return one_feature(drawn.train.of_classes(PAIR))


def test_feature_has_mean_1_and_is_larger_in_the_second_class(rows):
    phi, labels = rows

    x, one = phi.T
    assert x.min() >= 0
    assert x.mean() == pytest.approx(1)
    assert x[labels == 1].mean() > x[labels == 0].mean()
    assert (one == 1).all()


def test_hessian_is_the_derivative_of_the_gradient(rows):
    phi, labels = rows
    theta = torch.tensor([[1.0, -2.0]], dtype=torch.float64)

    expected = torch.autograd.functional.hessian(
        lambda t: torch.nn.functional.binary_cross_entropy_with_logits(phi @ t, labels.double()),
        theta[0],
    )

    torch.testing.assert_close(hessian(theta, phi), expected)


def test_gradient_vanishes_at_the_minimum(rows):
    _, g = of_sigmoid(minimum(*rows), *rows)

    torch.testing.assert_close(g, torch.zeros_like(g), atol=1e-12, rtol=0)


def test_descent_crawls_converges_or_oscillates_by_its_rate(rows):
    phi, labels = rows
    lowest = minimum(phi, labels)
    least = of_sigmoid(lowest, phi, labels)[0]
    crawls, converges, oscillates, *others = (
        of_sigmoid(path_of(rule, alpha, phi, labels)[-1:], phi, labels)[0] - least
        for rule, alpha in ((r, alpha_of(share, lowest, phi)) for r, share in ROUTES)
    )

    assert 0 <= converges < crawls / 10
    assert converges < oscillates / 10
    assert all(0 <= other < crawls for other in others)


def test_picture_of_the_descents_is_a_small_png(drawn, tmp_path):
    path = tmp_path / "descents.png"

    draw_descents(drawn.train.of_classes(PAIR), path)

    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 300_000
