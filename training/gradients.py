"""The mean loss J and its gradient ∂J/∂θ, by autograd or in closed form.

theta (K, D + 1), phi (n, D + 1), labels (n,) -> J in nats, ∂J/∂θ (K, D + 1). The
binary model has one row of θ: K = 1.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from training.losses import binary_cross_entropy, cross_entropy

Gradient = Callable[[Tensor, Tensor, Tensor], tuple[float, Tensor]]


def by_autograd(loss: Callable[[Tensor, Tensor], Tensor]) -> Gradient:
    """Return the gradient that autograd computes of a loss of logits and labels."""

    def gradient(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        theta = theta.detach().requires_grad_()
        j = loss(theta @ phi.T, labels)
        (dj_dtheta,) = torch.autograd.grad([j], [theta])
        return j.item(), dj_dtheta

    return gradient


_identity = cache(np.identity)  # its columns are the one-hot classes


def of_softmax(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Compute the cross-entropy and its gradient: Σ_n (y_n - t_n) φ_nᵀ / N.

    y = softmax(θ φ), and t is the one-hot label. Bishop, PRML, eq. 4.109 (there a sum).
    In numpy on the tensors' memory, because a numpy call takes half the time of a torch
    call.
    """
    weights, features = theta.numpy(), phi.numpy()
    t = _identity(len(weights), weights.dtype).take(labels.numpy(), axis=1)
    z = weights.dot(features.T)
    z -= z.max(axis=0)  # softmax stays the same, and no exp overflows
    y = np.exp(z)
    total = y.sum(axis=0)
    j = (np.log(total).sum() - np.vdot(t, z)) / len(features)
    y /= total
    y -= t
    y /= len(features)
    return float(j), torch.from_numpy(y.dot(features))


def of_sigmoid(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Compute the binary cross-entropy and its gradient: Σ_n (σ(θ φ_n) - t_n) φ_nᵀ / N.

    Bishop, PRML, eq. 4.91 (there a sum)
    """
    logits = theta @ phi.T
    j = binary_cross_entropy(logits, labels).item()
    return j, ((logits.sigmoid() - labels) / len(phi)) @ phi


def gradients_of(n_classes: int) -> dict[str, Gradient]:
    """Return the gradients of the model of so many classes, by name."""
    if n_classes == 2:
        return {"autograd": by_autograd(binary_cross_entropy), "closed-form": of_sigmoid}
    return {"autograd": by_autograd(cross_entropy), "closed-form": of_softmax}


def n_outputs(n_classes: int) -> int:
    """Return the number of rows of θ: one for two classes, else one for each class."""
    return 1 if n_classes == 2 else n_classes
