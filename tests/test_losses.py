import math

import pytest
import torch
from torch.nn import functional

from training.losses import binary_cross_entropy, cross_entropy, log_softmax


@pytest.fixture
def problem():
    """Features (30, 5), labels of 4 classes and of 2, weights, all in float64."""
    generator = torch.Generator().manual_seed(3)
    phi = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    return phi, torch.arange(30) % 4, weight


def test_cross_entropy_is_torchs(problem):
    phi, labels, weight = problem
    logits = phi @ weight

    torch.testing.assert_close(
        cross_entropy(logits, labels), functional.cross_entropy(logits, labels)
    )


def test_binary_cross_entropy_is_torchs(problem):
    phi, labels, weight = problem
    logits, labels = phi @ weight[:, 0], labels % 2

    torch.testing.assert_close(
        binary_cross_entropy(logits, labels),
        functional.binary_cross_entropy_with_logits(logits, labels.double()),
    )


def test_gradient_of_cross_entropy_is_bishops_4_109(problem):
    phi, labels, weight = problem
    weight.requires_grad_()

    cross_entropy(phi @ weight, labels).backward()

    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    y = torch.softmax(phi @ weight.detach(), 1)
    torch.testing.assert_close(weight.grad, phi.T @ (y - one_hot) / len(phi))


def test_gradient_of_binary_cross_entropy_is_bishops_4_91(problem):
    phi, labels, weight = problem
    w, t = weight[:, 0].clone().requires_grad_(), labels % 2

    binary_cross_entropy(phi @ w, t).backward()

    y = torch.sigmoid(phi @ w.detach())
    torch.testing.assert_close(w.grad, phi.T @ (y - t) / len(phi))


@pytest.mark.parametrize("binary", [False, True])
def test_gradients_are_those_of_central_differences(binary, problem):
    phi, labels, weight = problem
    if binary:
        loss, weight, labels = binary_cross_entropy, weight[:, 0].clone(), labels % 2
    else:
        loss = cross_entropy
    weight.requires_grad_()
    loss(phi @ weight, labels).backward()

    h = 1e-6
    numeric = torch.zeros_like(weight)
    with torch.no_grad():
        for i in range(weight.numel()):
            nudge = torch.zeros(weight.numel(), dtype=torch.float64)
            nudge[i] = h
            nudge = nudge.view_as(weight)
            up, down = (loss(phi @ (weight + s * nudge), labels) for s in (1, -1))
            numeric.view(-1)[i] = (up - down) / (2 * h)

    torch.testing.assert_close(weight.grad, numeric, rtol=1e-7, atol=1e-9)


def test_equal_logits_cost_the_log_of_the_number_of_classes():
    logits = torch.zeros(7, 10)
    assert cross_entropy(logits, torch.arange(7)).item() == pytest.approx(math.log(10))
    assert binary_cross_entropy(torch.zeros(7), torch.ones(7)).item() == pytest.approx(
        math.log(2)
    )


def articles_log_softmax(x: torch.Tensor) -> torch.Tensor:
    return x - x.exp().sum(-1).log().unsqueeze(-1)


@pytest.mark.parametrize("logit", [100.0, -110.0, 1e4])
def test_log_softmax_holds_where_the_articles_overflows(logit):
    x = torch.full((1, 3), logit)
    x[0, 0] += 1.0

    assert not articles_log_softmax(x).isfinite().all()
    torch.testing.assert_close(log_softmax(x), torch.log_softmax(x, 1))


def test_log_softmax_is_the_articles_where_that_holds():
    x = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(log_softmax(x), articles_log_softmax(x))


@pytest.mark.parametrize("logit", [200.0, -200.0, 1e30])
def test_binary_loss_of_a_sure_answer_is_finite(logit):
    z = torch.tensor([logit], requires_grad=True)

    loss = binary_cross_entropy(z, torch.tensor([0]))
    loss.backward()

    assert loss.item() == pytest.approx(max(logit, 0))
    assert z.grad.item() == pytest.approx(1.0 if logit > 0 else 0.0)
