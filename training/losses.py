"""The log-likelihoods of logistic regression and their negative mean, of logits.

z are the logits of a row, and t is its label.
"""

from torch import Tensor


def log_likelihoods(logits: Tensor, labels: Tensor) -> Tensor:
    """Multinomial logistic regression's log p(t | φ), of each row, in nats.

    logits (K, n) float, labels (n,) int64 in 0..K-1 -> (1, n)
    log p(t | φ) = z_t - log Σ_k exp z_k    the log of Bishop, PRML, eq. 4.104, at t
    """
    log_p = logits.log_softmax(dim=0)  # z - log Σ_k exp z_k, and no exp overflows
    return log_p.gather(0, labels[None])


def binary_log_likelihoods(logits: Tensor, labels: Tensor) -> Tensor:
    """The Bernoulli distribution's log p(t | φ), of each row, in nats.

    logits (1, n) float, labels (n,) int64 in {0, 1} -> (1, n)
    log p(t | φ) = t log σ(z) + (1 - t) log(1 - σ(z)) = t z - log(1 + exp z)
    the log of Bishop, PRML, eq. 4.89, with σ(z) = 1 / (1 + exp -z), eq. 4.59
    """
    # log(1 + exp z) = max(z, 0) + log(1 + exp -|z|): no exponential overflows
    log_one_plus_exp = logits.clamp(min=0) + (-logits.abs()).exp().log1p()
    return labels * logits - log_one_plus_exp


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the classes. Bishop, eq. 4.108 (there a sum)."""
    return -log_likelihoods(logits, labels).mean()


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of two classes. Bishop, eq. 4.90 (there a sum)."""
    return -binary_log_likelihoods(logits, labels).mean()
