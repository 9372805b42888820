"""The negative log-likelihoods of logistic regression, of logits."""

from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of multinomial logistic regression, in nats.

    logits (K, n) float, labels (n,) int64 in 0..K-1 -> scalar
    -log p(y | x) = log Σ_k exp z_k - z_y    Bishop, PRML, eq. 4.108 (there a sum)
    """
    log_p = logits.log_softmax(dim=0)  # z - log Σ_k exp z_k, and no exp overflows
    return -log_p.gather(0, labels[None]).mean()


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the Bernoulli distribution, in nats.

    logits (1, n) float, labels (n,) int64 in {0, 1} -> scalar
    -log p(y | x) = -y log σ(z) - (1 - y) log(1 - σ(z)) = log(1 + exp z) - y z
    Bishop, PRML, eq. 4.90 (there a sum), with σ(z) = 1 / (1 + exp -z), eq. 4.59
    """
    # log(1 + exp z) = max(z, 0) + log(1 + exp -|z|): no exponential overflows
    log_one_plus_exp = logits.clamp(min=0) + (-logits.abs()).exp().log1p()
    return (log_one_plus_exp - labels * logits).mean()
