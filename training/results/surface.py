"""J over the two parameters of a small model, and the path of each rule on it."""

import numpy as np
import torch
from torch import Tensor

from service.features import pixels
from training.data.dataset import Digits
from training.gradients import of_sigmoid
from training.rules import RULES

START = (0.0, 4.0)  # (w, b): whatever x is, 98 % sure of the second class
N_STEPS = 100
# A rule and its α L, where L is the largest curvature of J at its minimum: descent at a
# small rate, near its limit of 2 and beyond it, and others at the small rate. Adam's α
# is the length of a step in w and in b, whatever the curvature.
WAYS = (
    ("descent", 0.2),
    ("descent", 1.7),
    ("descent", 2.3),
    ("momentum", 0.2),
    ("nesterov", 0.2),
    ("adam", None),
)
ADAM_ALPHA = 0.3
MAX_NEWTON_STEPS, CONVERGED = 30, 1e-9


def one_feature(digits: Digits) -> tuple[Tensor, Tensor]:
    """Describe digits of the classes 0 and 1 by one feature: Φ (n, 2), labels (n,).

    x is the ink where the average of class 1 has more of it than that of class 0, in
    units of its mean. It is not centred: in σ(w x + b) a larger w does nearly what a
    larger b does, and J is a long valley.
    """
    ink, labels = pixels(digits.images), digits.labels
    first, second = (ink[labels == label].mean(axis=0) for label in (0, 1))
    x = (ink @ np.maximum(second - first, 0)).astype(np.float64)
    phi = np.column_stack([x / x.mean(), np.ones_like(x)])
    return torch.from_numpy(phi), torch.from_numpy(labels.astype(np.int64))


def path_of(rule: str, alpha: float, phi: Tensor, labels: Tensor) -> Tensor:
    """Follow a rule from START by the gradient of all rows: θ (N_STEPS + 1, 2)."""
    theta = torch.tensor([START], dtype=phi.dtype)
    memory = [torch.zeros_like(theta) for _ in range(RULES[rule].n_remembered)]
    path = [theta.clone()]
    for t in range(1, N_STEPS + 1):
        _, g = of_sigmoid(theta, phi, labels)
        RULES[rule].update(theta, g, alpha, t, *memory)
        path.append(theta.clone())
    return torch.vstack(path)


def minimum(phi: Tensor, labels: Tensor) -> Tensor | None:
    """Find the θ (1, 2) of the least J by Newton's steps θ ← θ - H⁻¹ ∂J/∂θ.

    None if there is none: where x tells the classes apart, J falls for ever.
    Bishop, PRML, eq. 4.92
    """
    theta = phi.new_zeros(1, 2)
    for _ in range(MAX_NEWTON_STEPS):
        _, g = of_sigmoid(theta, phi, labels)
        try:
            move = torch.linalg.solve(hessian(theta, phi), g[0])
        except torch.linalg.LinAlgError:
            return None
        theta = theta - move
        if move.abs().max() < CONVERGED:
            return theta
    return None


def hessian(theta: Tensor, phi: Tensor) -> Tensor:
    """Compute ∂²J/∂θ² (2, 2) at θ (1, 2): Φᵀ R Φ / N, with R = y (1 - y) of each row.

    Bishop, PRML, eq. 4.97 (there a sum)
    """
    y = (theta @ phi.T).sigmoid()
    return (y * (1 - y) / len(phi) * phi.T) @ phi


def rates(lowest: Tensor | None, phi: Tensor) -> list[float]:
    """Give the α of each way, by the curvature at the minimum; without one, at θ = 0.

    There y (1 - y) is 1/4, and J is curved the most.
    """
    theta = phi.new_zeros(1, 2) if lowest is None else lowest
    largest = torch.linalg.eigvalsh(hessian(theta, phi))[-1].item()
    return [share / largest if share else ADAM_ALPHA for _, share in WAYS]


def surface(w: Tensor, b: Tensor, phi: Tensor, labels: Tensor) -> Tensor:
    """Compute J over a grid of w (m,) and b (n,): (n, m), as contours are drawn."""
    rows = [
        [of_sigmoid(torch.stack([x, y])[None], phi, labels)[0] for x in w] for y in b
    ]
    return torch.tensor(rows)
