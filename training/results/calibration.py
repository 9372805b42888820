"""Temperature scaling, fitted on rows that were not trained on."""

from torch import Tensor

BISECTIONS = 60  # exhausts the digits of float64
# Beyond these, too few of the rows are misread to estimate the temperature.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 4.0


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Compute the T that minimises the mean negative log-likelihood of softmax(z / T).

    logits (n, K) float64, labels (n,) int64 -> T in MIN_TEMPERATURE..MAX_TEMPERATURE
    The loss is convex in β = 1 / T, and its derivative E_p[z] - z_y rises with β, so
    that bisection finds its zero. Guo et al., "On calibration of modern neural
    networks", 2017
    """
    truth = logits.gather(1, labels[:, None]).mean()
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(BISECTIONS):
        beta = (low + high) / 2
        expected = ((logits * beta).softmax(dim=1) * logits).sum(dim=1).mean()
        low, high = (low, beta) if expected > truth else (beta, high)
    return 2 / (low + high)
