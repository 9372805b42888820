"""Gradient checks: derivatives compared with central differences of the loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from training.gradients import Gradient

TOLERANCE = 1e-6  # of an error; correct gradients are within about 1e-9


class WrongGradient(ArithmeticError):
    """A gradient that is not the derivative of its loss."""


class Check(NamedTuple):
    """One derivative, by θ[row, column], and its central difference."""

    row: int
    column: int
    derivative: float
    quotient: float
    error: float  # their absolute difference over the largest derivative


def worst(
    gradient: Gradient,
    theta: Tensor,
    phi: Tensor,
    labels: Tensor,
    n: int,
    generator: torch.Generator,
) -> Check:
    """Compare n random derivatives with central differences; return the worst match.

    theta (K, D + 1), phi (m, D + 1) float64, labels (m,). The quotient is
    (J(θ + h e_i) - J(θ - h e_i)) / 2h, with h = ∛ε; its error is of the order h².
    """
    h = torch.finfo(theta.dtype).eps ** (1 / 3)
    _, g = gradient(theta, phi, labels)
    columns, largest = theta.shape[1], g.abs().max().item()

    def check(i: int) -> Check:
        row, column = divmod(i, columns)
        step = torch.zeros_like(theta)
        step[row, column] = h
        above, below = (gradient(theta + s, phi, labels)[0] for s in (step, -step))
        derivative, quotient = g[row, column].item(), (above - below) / (2 * h)
        error = abs(derivative - quotient) / largest
        return Check(row, column, derivative, quotient, error)

    indices = torch.randperm(theta.numel(), generator=generator)[:n]
    return max(map(check, indices.tolist()), key=lambda check: check.error)
