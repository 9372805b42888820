"""The mean loss J and its gradient ∂J/∂θ, by autograd or in closed form.

theta (K, D + 1), phi (n, D + 1), labels (n,) -> J in nats, ∂J/∂θ (K, D + 1)
"""

from collections.abc import Callable

from torch import Tensor

from training.losses import binary_cross_entropy, cross_entropy

Gradient = Callable[[Tensor, Tensor, Tensor], tuple[float, Tensor]]


def by_autograd(loss: Callable[[Tensor, Tensor], Tensor]) -> Gradient:
    """Have autograd differentiate a loss of logits z = θ φ and labels."""

    def gradient(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        theta = theta.detach().requires_grad_()
        j = loss(theta @ phi.T, labels)
        j.backward()
        return j.item(), theta.grad

    return gradient


def of_softmax(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Give the cross-entropy and its gradient: Σ_n (y_n - t_n) φ_nᵀ / N.

    y = softmax(θ φ), and t is 1 in the row of the label.
    Bishop, PRML, eq. 4.109 (there a sum)
    """
    log_y, t = (theta @ phi.T).log_softmax(dim=0), labels[None]
    j = -log_y.gather(0, t).mean().item()
    y = log_y.exp_()
    y_minus_t = y.scatter_add_(0, t, y.new_full(t.shape, -1.0))
    return j, (y_minus_t / len(phi)) @ phi


def of_sigmoid(theta: Tensor, phi: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Give the binary cross-entropy and its gradient: Σ_n (σ(θ φ_n) - t_n) φ_nᵀ / N.

    Bishop, PRML, eq. 4.91 (there a sum)
    """
    logits = theta @ phi.T
    j = binary_cross_entropy(logits, labels).item()
    return j, ((logits.sigmoid() - labels) / len(phi)) @ phi


# of the model of many classes, and of the binary one
GRADIENTS: dict[str, tuple[Gradient, Gradient]] = {
    "autograd": (by_autograd(cross_entropy), by_autograd(binary_cross_entropy)),
    "closed-form": (of_softmax, of_sigmoid),
}
