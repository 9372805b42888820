import numpy as np
import pytest
import torch

from training.data import Digits
from training.gradients import of_sigmoid
from training.rules import RULES
from training.surface import (
    N_STEPS,
    RATES,
    START,
    minimum,
    one_feature,
    path_of,
    surface,
)


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
    assert set(given) == set(RATES) == set(RULES)
    for rule, (kind, options) in given.items():
        theta = torch.tensor(START, dtype=phi.dtype, requires_grad=True)
        optimizer = kind([theta], lr=RATES[rule], **options)
        path = [theta.detach().clone()]
        for _ in range(N_STEPS):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(
                phi @ theta, labels.double()
            ).backward()
            optimizer.step()
            path.append(theta.detach().clone())

        torch.testing.assert_close(path_of(rule, phi, labels), torch.stack(path))


def test_every_rule_goes_down_and_none_below_the_minimum(rows):
    least = of_sigmoid(minimum(*rows), *rows)[0]
    first = of_sigmoid(torch.tensor([START], dtype=torch.float64), *rows)[0]
    for rule in RULES:
        last = of_sigmoid(path_of(rule, *rows)[-1:], *rows)[0]
        assert least <= last < first / 3


def test_valley_is_why_plain_descent_crawls_and_momentum_does_not(rows):
    least = of_sigmoid(minimum(*rows), *rows)[0]
    above = {
        rule: of_sigmoid(path_of(rule, *rows)[-1:], *rows)[0] - least for rule in RULES
    }

    assert above["momentum"] < above["descent"] / 10
    assert above["nesterov"] < above["descent"] / 10


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
