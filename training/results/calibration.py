"""How sure to be: one temperature, fitted on rows that were not trained on."""

from torch import Tensor

STEPS = 60  # halvings of the interval: float64 has no more digits
LEAST, MOST = 0.5, 4.0  # beyond, too few rows were misread to tell how sure to be


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the T that minimises the mean negative log-likelihood of softmax(z / T).

    logits (n, K) float64, labels (n,) int64 -> T, between LEAST and MOST
    With β = 1 / T the loss is convex, and its derivative E_p[z] - z_y rises with β: its
    zero is found by bisection. Guo et al., "On calibration of modern neural networks",
    2017
    """
    truth = logits.gather(1, labels[:, None]).mean()
    low, high = 1 / MOST, 1 / LEAST
    for _ in range(STEPS):
        beta = (low + high) / 2
        expected = ((logits * beta).softmax(dim=1) * logits).sum(dim=1).mean()
        low, high = (low, beta) if expected > truth else (beta, high)
    return 2 / (low + high)
