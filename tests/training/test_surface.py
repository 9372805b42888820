import numpy as np
import pytest
import torch

from training.data.dataset import Digits
from training.gradients import of_sigmoid
from training.results.surface import (
    N_STEPS,
    START,
    WAYS,
    hessian,
    minimum,
    one_feature,
    path_of,
    rates,
    surface,
)
from training.rules import RULES


@pytest.fixture(scope="module")
def rows(drawn):
    """Fours and nines: the ink of some is as that of others."""
    return one_feature(drawn.train.of_classes((4, 9)))


def test_feature_is_ink_about_its_mean_and_more_of_it_in_the_second_class(rows):
    phi, labels = rows

    x, one = phi.T
    assert x.min() >= 0
    assert x.mean() == pytest.approx(1)
    assert x[labels == 1].mean() > x[labels == 0].mean()
    assert (one == 1).all()


def test_feature_counts_the_ink_where_the_second_class_has_more():
    images = np.zeros((4, 28, 28), np.uint8)
    images[:, 0, 0] = 255  # all have it
    images[0, 5, 5] = 255  # of the first class alone
    images[2:, 9, 9] = 255, 51  # of the second: 1 and 0.2, of mean 0.6
    phi, _ = one_feature(Digits(images, np.array([0, 0, 1, 1], np.uint8)))

    np.testing.assert_allclose(phi[:, 0], np.array([0, 0, 1, 0.2]) / 0.3, rtol=1e-6)


def test_paths_are_those_of_torchs_optimizers(rows):
    """The loss by torch's own function, the gradient by autograd."""
    phi, labels = rows
    given = {
        "descent": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": 0.9}),
        "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        "adam": (torch.optim.Adam, {}),
    }
    assert set(given) == {rule for rule, _ in WAYS} == set(RULES)
    for rule, (kind, options) in given.items():
        theta = torch.tensor(START, dtype=phi.dtype, requires_grad=True)
        optimizer = kind([theta], lr=0.9, **options)
        path = [theta.detach().clone()]
        for _ in range(N_STEPS):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(
                phi @ theta, labels.double()
            ).backward()
            optimizer.step()
            path.append(theta.detach().clone())

        torch.testing.assert_close(path_of(rule, 0.9, phi, labels), torch.stack(path))


def test_descent_crawls_arrives_or_leaps_by_its_rate_and_others_arrive(rows):
    phi, labels = rows
    lowest = minimum(phi, labels)
    least = of_sigmoid(lowest, phi, labels)[0]
    above = [
        of_sigmoid(path_of(rule, alpha, phi, labels)[-1:], phi, labels)[0] - least
        for (rule, _), alpha in zip(WAYS, rates(lowest, phi), strict=True)
    ]

    crawls, arrives, leaps, *others = above
    assert 0 <= arrives < crawls / 10
    assert arrives < leaps / 10
    assert all(0 <= other < crawls for other in others)


def test_hessian_is_the_derivative_of_the_gradient(rows):
    phi, labels = rows
    theta = torch.tensor([[1.0, -2.0]], dtype=torch.float64)

    expected = torch.autograd.functional.hessian(
        lambda t: torch.nn.functional.binary_cross_entropy_with_logits(
            phi @ t, labels.double()
        ),
        theta[0],
    )

    torch.testing.assert_close(hessian(theta, phi), expected)


def test_rates_without_a_minimum_are_those_of_the_steepest_curve(rows):
    phi, _ = rows
    largest = torch.linalg.eigvalsh(phi.T @ phi / len(phi) / 4)[-1].item()

    assert rates(None, phi)[0] == pytest.approx(WAYS[0][1] / largest)


def test_gradient_vanishes_at_the_minimum(rows):
    _, g = of_sigmoid(minimum(*rows), *rows)

    torch.testing.assert_close(g, torch.zeros_like(g), atol=1e-12, rtol=0)


def test_classes_that_the_feature_tells_apart_have_no_minimum():
    phi = torch.tensor([[0.5, 1], [0.6, 1], [1.4, 1], [1.5, 1]], dtype=torch.float64)

    assert minimum(phi, torch.tensor([0, 0, 1, 1])) is None


def test_surface_is_the_loss_at_every_point(rows):
    w, b = torch.tensor([0.0, 3.0]).double(), torch.tensor([-3.0, 0.0, 1.0]).double()

    j = surface(w, b, *rows)

    assert j.shape == (3, 2)
    assert j[1, 0] == pytest.approx(np.log(2))
    logits = 3 * rows[0][:, 0] - 3
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, rows[1].double()
    )
    assert j[0, 1] == pytest.approx(expected.item())
