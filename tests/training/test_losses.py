"""Losses against their formulas."""

import math

import pytest
import torch
from torch.nn import functional

from training.losses import binary_cross_entropy, cross_entropy, detection_cross_entropy


@pytest.fixture
def problem():
    """Features (30, 5), labels of 4 classes, weights (4, 5), all in float64."""
    generator = torch.Generator().manual_seed(3)
    phi = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    return phi, torch.arange(30) % 4, weight


def test_cross_entropy_equals_torchs(problem):
    phi, labels, weight = problem
    logits = weight @ phi.T

    torch.testing.assert_close(
        cross_entropy(logits, labels), functional.cross_entropy(logits.T, labels)
    )


def test_binary_cross_entropy_equals_torchs(problem):
    phi, labels, weight = problem
    logits, labels = weight[:1] @ phi.T, labels % 2

    torch.testing.assert_close(
        binary_cross_entropy(logits, labels),
        functional.binary_cross_entropy_with_logits(logits[0], labels.double()),
    )


def test_cross_entropy_equals_its_formula(problem):
    phi, labels, weight = problem
    z = weight @ phi.T

    written = z.exp().sum(0).log() - z[labels, torch.arange(30)]

    torch.testing.assert_close(cross_entropy(z, labels), written.mean())


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy])
def test_autograd_of_each_loss_equals_central_differences(loss, problem):
    phi, labels, weight = problem
    if loss is binary_cross_entropy:
        weight, labels = weight[:1].clone(), labels % 2
    weight.requires_grad_()
    loss(weight @ phi.T, labels).backward()

    h = 1e-6
    numeric = torch.zeros_like(weight)
    with torch.no_grad():
        for i in range(weight.numel()):
            nudge = torch.zeros(weight.numel(), dtype=torch.float64)
            nudge[i] = h
            nudge = nudge.view_as(weight)
            up, down = (loss((weight + s * nudge) @ phi.T, labels) for s in (1, -1))
            numeric.view(-1)[i] = (up - down) / (2 * h)

    torch.testing.assert_close(weight.grad, numeric, rtol=1e-7, atol=1e-9)


def test_equal_logits_have_a_loss_of_the_log_of_the_number_of_classes():
    logits = torch.zeros(10, 7)
    assert cross_entropy(logits, torch.arange(7)).item() == pytest.approx(math.log(10))
    assert binary_cross_entropy(torch.zeros(1, 7), torch.ones(7)).item() == pytest.approx(
        math.log(2)
    )


def articles_log_softmax(x: torch.Tensor) -> torch.Tensor:
    return x - x.exp().sum(-1).log().unsqueeze(-1)


@pytest.mark.parametrize("logit", [100.0, -110.0, 1e4])
def test_cross_entropy_is_right_where_the_articles_overflows(logit):
    x = torch.full((1, 3), logit)
    x[0, 0] += 1.0

    assert not articles_log_softmax(x).isfinite().all()
    assert cross_entropy(x.T, torch.tensor([0])).item() == pytest.approx(
        math.log(1 + 2 / math.e), rel=1e-5
    )


def test_cross_entropy_equals_the_articles_elsewhere():
    x = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    y = torch.arange(5)

    article = -articles_log_softmax(x)[range(5), y].mean()

    torch.testing.assert_close(cross_entropy(x.T, y), article)


@pytest.mark.parametrize("logit", [200.0, -200.0, 1e30])
def test_binary_loss_of_an_extreme_logit_is_finite(logit):
    z = torch.tensor([[logit]], requires_grad=True)

    loss = binary_cross_entropy(z, torch.tensor([0]))
    loss.backward()

    assert loss.item() == pytest.approx(max(logit, 0))
    assert z.grad.item() == pytest.approx(1.0 if logit > 0 else 0.0)


def test_detection_loss_is_the_binary_loss_of_the_shared_and_the_read_classs_logit():
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(4, 50, generator=generator, dtype=torch.float64, requires_grad=True)
    read = torch.randint(3, (50,), generator=generator)
    t = torch.randint(2, (50,), generator=generator)

    loss = detection_cross_entropy(z, 2 * read + t)

    logit = z[0] + z[1 + read, torch.arange(50)]
    expected = functional.binary_cross_entropy_with_logits(logit, t.double())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(j, z) for j in (loss, expected)))
