import pytest
import torch

from training.losses import cross_entropy
from training.results.calibration import MIN_TEMPERATURE, temperature


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


def test_no_other_temperature_has_a_lower_loss():
    logits, labels = sampled(2_000)

    best = temperature(logits, labels)

    loss = cross_entropy(logits.T / best, labels)
    for other in (0.9 * best, 0.99 * best, 1.01 * best, 1.1 * best):
        assert cross_entropy(logits.T / other, labels) > loss


def test_rows_without_a_mistake_do_not_make_certain():
    logits = torch.eye(3, dtype=torch.float64)

    assert temperature(logits, torch.arange(3)) == pytest.approx(MIN_TEMPERATURE)
