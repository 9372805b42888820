"""Temperature scaling, fitted on rows that were not trained on."""

from torch import Tensor

BISECTIONS = 60  # exhausts the digits of float64
# Beyond these, too few of the rows are misread to estimate the temperature.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 4.0


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Compute the T that minimises the mean negative log-likelihood of softmax(z / T).

    logits (n, K) float64, labels (n,) int64 -> T in MIN_TEMPERATURE..MAX_TEMPERATURE

    The target t of a row is (n + 1) / (n + 2) for its class and 1 / (n + 2) for the
    strongest other one. If all n rows are read right, this is the share that is right by
    the rule of succession: few rows cannot make the answers certain. Platt,
    "Probabilistic outputs for support vector machines", 1999, section 2.2

    The loss is convex in β = 1 / T, and its derivative E_p[z] - E_t[z] rises with β, so
    that bisection finds its zero. Guo et al., "On calibration of modern neural networks",
    2017
    """
    truth = logits.gather(1, labels[:, None]).mean()
    rival = logits.scatter(1, labels[:, None], -float("inf")).amax(dim=1).mean()
    target = truth + (rival - truth) / (len(labels) + 2)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(BISECTIONS):
        beta = (low + high) / 2
        expected = ((logits * beta).softmax(dim=1) * logits).sum(dim=1).mean()
        low, high = (low, beta) if expected > target else (beta, high)
    return 2 / (low + high)
