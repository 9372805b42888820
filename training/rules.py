"""Update rules: how θ moves at a rate α, given the gradient g = ∂J/∂θ of step t.

Each updates θ in place, and its memory: tensors of the shape of θ that start at zero.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

MOMENTUM = 0.9  # β of momentum and of Nesterov's
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # recommended by Adam's authors


def descent(theta: Tensor, g: Tensor, alpha: float, t: int) -> None:
    """Apply gradient descent: θ ← θ - α g.

    Cauchy, "Méthode générale pour la résolution des systèmes d'équations", 1847
    """
    theta.sub_(g, alpha=alpha)


def momentum(theta: Tensor, g: Tensor, alpha: float, t: int, v: Tensor) -> None:
    """Apply heavy-ball momentum: v ← β v + g, θ ← θ - α v.

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964
    """
    v *= MOMENTUM
    v += g
    theta -= alpha * v


def nesterov(theta: Tensor, g: Tensor, alpha: float, t: int, v: Tensor) -> None:
    """Apply Nesterov's momentum: v ← β v + g, θ ← θ - α (g + β v).

    Nesterov, 1983; θ is the look-ahead point. Sutskever et al., "On the importance of
    initialization and momentum in deep learning", 2013
    """
    v *= MOMENTUM
    v += g
    theta -= alpha * (g + MOMENTUM * v)


def adam(theta: Tensor, g: Tensor, alpha: float, t: int, m: Tensor, v: Tensor) -> None:
    """Apply Adam: θ ← θ - α m̂ / (√v̂ + ε).

    m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g²: running means of g and its square;
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) correct their bias towards zero.
    Kingma, Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1
    """
    m += (1 - BETA_1) * (g - m)
    v += (1 - BETA_2) * (g * g - v)
    m_hat, v_hat = m / (1 - BETA_1**t), v / (1 - BETA_2**t)
    theta -= alpha * m_hat / (v_hat.sqrt() + EPSILON)


def decay(weight: Tensor, alpha: float, strength: float) -> None:
    """Apply decoupled weight decay: w ← w - α λ w. With Adam, this is AdamW.

    Loshchilov, Hutter, "Decoupled weight decay regularization", 2019, algorithm 2
    """
    weight *= 1 - alpha * strength


class Rule(NamedTuple):
    """An update rule and the number of tensors in its memory."""

    update: Callable[..., None]
    n_remembered: int


RULES = {
    "descent": Rule(descent, 0),
    "momentum": Rule(momentum, 1),
    "nesterov": Rule(nesterov, 1),
    "adam": Rule(adam, 2),
}
