"""The cross-entropy losses of logistic regression, as functions of the logits."""

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean negative log-likelihood J of K classes, in nats.

    logits z (K, n) float, labels t (n,) int64 in 0..K-1 -> ()
    J = -Σ_n Σ_k t_nk log y_nk / N, where t_n is one-hot and y_n = softmax(z_n).
    Bishop, PRML, eq. 4.108 (there a sum), with the softmax of eq. 4.104
    """
    log_y = logits.log_softmax(dim=0)  # z - log Σ_k exp z_k, and no exp overflows
    t_over_minus_n = torch.zeros_like(logits).scatter_(0, labels[None], -1 / len(labels))
    return (t_over_minus_n * log_y).sum()


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean negative log-likelihood J of two classes, in nats.

    logits z (1, n) float, labels t (n,) int64 in {0, 1} -> ()
    J = -Σ_n (t_n log σ(z_n) + (1 - t_n) log(1 - σ(z_n))) / N, where each term is
    t z - log(1 + exp z). Bishop, PRML, eq. 4.90 (there a sum), σ as in eq. 4.59
    """
    # log(1 + exp z) = max(z, 0) + log(1 + exp -|z|): no exponential overflows
    log_one_plus_exp = logits.clamp(min=0) + (-logits.abs()).exp().log1p()
    return -(labels * logits - log_one_plus_exp).mean()


def detection_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean negative log-likelihood J of being a digit, in nats.

    logits z (1 + K, n) float, labels (n,) int64 -> ()
    A row that is read as class k has the label 2 k + t, with t = 1 for a digit and 0 for
    none, and the logit z_0 + z_(1+k): all classes share the first.
    """
    read, t = labels // 2, labels % 2
    return binary_cross_entropy(logits[:1] + logits[1:].gather(0, read[None]), t)
