"""The temperature that calibrates probabilities."""

import pytest
import torch

from training.losses import cross_entropy
from training.results.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, temperature


def sampled(n: int = 8_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from their softmax: well calibrated."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


@pytest.mark.parametrize("factor", [0.7, 1.0, 2.5])
def test_temperature_undoes_a_scaling_of_the_logits(factor):
    logits, labels = sampled()

    assert temperature(logits * factor, labels) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_has_a_lower_loss_against_targets_by_the_rule_of_succession():
    logits, labels = sampled(300)
    rivals = logits.scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
    share = 1 / (len(labels) + 2)

    def loss(degrees: float) -> torch.Tensor:
        z = logits.T / degrees
        return (1 - share) * cross_entropy(z, labels) + share * cross_entropy(z, rivals)

    best = temperature(logits, labels)

    for other in (0.9 * best, 0.99 * best, 1.01 * best, 1.1 * best):
        assert loss(other) > loss(best)


@pytest.mark.parametrize("n", [10, 30, 100, 1_000])
def test_answers_are_as_sure_as_the_number_of_rows_without_a_mistake_allows(n):
    """All rows are read right: the next is by the rule of succession with (n + 1) / (n + 2)."""
    labels = torch.arange(n) % 10
    logits = 12 * torch.eye(10, dtype=torch.float64)[labels] + torch.arange(10) / 3

    degrees = temperature(logits, labels)

    sure = (logits / degrees).softmax(dim=1).amax(dim=1).mean().item()
    assert sure == pytest.approx((n + 1) / (n + 2), abs=0.5 / n)


def test_temperature_has_limits():
    logits = torch.eye(3, dtype=torch.float64)

    assert temperature(logits.repeat(99, 1), torch.arange(3).repeat(99)) == pytest.approx(
        MIN_TEMPERATURE
    )
    assert temperature(999 * logits, (torch.arange(3) + 1) % 3) == pytest.approx(MAX_TEMPERATURE)
