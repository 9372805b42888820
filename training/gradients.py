"""The mean loss J and its gradient ∂J/∂θ, by autograd or in closed form.

theta (K, D + 1), phi (n, D + 1), labels (n,) -> J in nats, ∂J/∂θ (K, D + 1)
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from training.losses import (
    binary_cross_entropy,
    binary_log_likelihoods,
    log_likelihoods,
)

Gradient = Callable[[Tensor, Tensor, Tensor], tuple[float, Tensor]]


def by_autograd(of_rows: Callable[[Tensor, Tensor], Tensor]) -> Gradient:
    """Have autograd differentiate J = -Σ_n log p(t_n | φ_n) / N.

    of_rows: logits z = θ φ (K, n), labels t (n,) -> log p(t_n | φ_n) (1, n)
    """

    def gradient(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        theta = theta.detach().requires_grad_()
        log_p = of_rows(theta @ phi.T, labels)
        # from ∂J/∂log p_n = -1 / N: a minus and a mean less for autograd to go through
        log_p.backward(torch.full_like(log_p, -1 / len(phi)))
        return -log_p.mean().item(), theta.grad

    return gradient


_identity = cache(np.identity)  # its columns are the classes, 1 of K


def of_softmax(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Give the cross-entropy and its gradient: Σ_n (y_n - t_n) φ_nᵀ / N.

    y = softmax(z) of z = θ φ, and t is 1 in the row of the label.
    Bishop, PRML, eq. 4.109 (there a sum). Arrays, of the tensors' own memory, because
    a call of numpy takes half the time of one of torch.
    """
    theta, phi = theta.numpy(), phi.numpy()
    t = _identity(len(theta), theta.dtype).take(labels.numpy(), axis=1)
    z = theta.dot(phi.T)
    z -= z.max(axis=0)  # softmax stays the same, and no exp overflows
    y = np.exp(z)
    total = y.sum(axis=0)
    j = (np.log(total).sum() - np.vdot(t, z)) / len(phi)
    y /= total
    y -= t
    y /= len(phi)
    return float(j), torch.from_numpy(y.dot(phi))


def of_sigmoid(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Give the binary cross-entropy and its gradient: Σ_n (σ(θ φ_n) - t_n) φ_nᵀ / N.

    Bishop, PRML, eq. 4.91 (there a sum)
    """
    logits = theta @ phi.T
    j = binary_cross_entropy(logits, labels).item()
    return j, ((logits.sigmoid() - labels) / len(phi)) @ phi


# of the model of many classes, and of the binary one
GRADIENTS: dict[str, tuple[Gradient, Gradient]] = {
    "autograd": (by_autograd(log_likelihoods), by_autograd(binary_log_likelihoods)),
    "closed-form": (of_softmax, of_sigmoid),
}
