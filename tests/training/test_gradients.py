"""Gradients by autograd and in closed form."""

import pytest
import torch

from training.gradients import gradients_of


def problem(n_outputs: int, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(3)
    theta, phi = (torch.randn(n, 785, generator=generator, dtype=dtype) for n in (n_outputs, 64))
    return theta / 28, phi, torch.arange(64) % max(2, n_outputs)


@pytest.mark.parametrize("n_outputs", [10, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_closed_form_equals_autograd(n_outputs, dtype, tolerance):
    inputs = problem(n_outputs, dtype)
    by_autograd, closed = gradients_of(max(2, n_outputs)).values()

    (j, gradient), (closed_j, closed_gradient) = by_autograd(*inputs), closed(*inputs)

    assert closed_j == pytest.approx(j, rel=1e-6)
    torch.testing.assert_close(closed_gradient, gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", gradients_of(10))
def test_gradient_of_softmax_is_bishops_equation_4_109(name):
    theta, phi, labels = problem(4, torch.float64)

    _, gradient = gradients_of(10)[name](theta, phi, labels)

    y = torch.softmax(phi @ theta.T, 1)
    t = torch.eye(4, dtype=torch.float64)[labels]
    torch.testing.assert_close(gradient, (y - t).T @ phi / 64)


@pytest.mark.parametrize("name", gradients_of(10))
def test_gradient_of_sigmoid_is_bishops_equation_4_91(name):
    theta, phi, t = problem(1, torch.float64)

    _, gradient = gradients_of(2)[name](theta, phi, t)

    y = torch.sigmoid(phi @ theta[0])
    torch.testing.assert_close(gradient[0], (y - t) @ phi / 64)


@pytest.mark.parametrize("name", gradients_of(10))
def test_gradients_do_not_change_theta(name):
    theta, phi, labels = problem(10, torch.float32)
    before = theta.clone()

    gradients_of(10)[name](theta, phi, labels)

    assert torch.equal(theta, before)
    assert not theta.requires_grad


def test_closed_form_is_right_where_an_exponential_overflows():
    theta, phi, labels = problem(10, torch.float64)
    j, gradient = gradients_of(10)["autograd"](theta * 1e4, phi, labels)

    closed_j, closed_gradient = gradients_of(10)["closed-form"](theta * 1e4, phi, labels)

    assert closed_j == pytest.approx(j)
    torch.testing.assert_close(closed_gradient, gradient)
