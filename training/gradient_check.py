"""Gradient checks: what the formulas give against finite differences of the loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from training.gradients import Gradient

TOLERANCE = 1e-6  # of an error: those of right gradients are some 1e-9


class WrongGradient(ArithmeticError):
    """A gradient that is not the derivative of its loss."""


class Check(NamedTuple):
    """The derivative that differs the most: by θ[row, column]."""

    row: int
    column: int
    derivative: float
    quotient: float
    error: float  # their difference, as a share of the largest derivative


def worst(
    gradient: Gradient,
    theta: Tensor,
    phi: Tensor,
    labels: Tensor,
    n: int,
    generator: torch.Generator,
) -> Check:
    """Compare n derivatives, drawn by the generator, with central differences.

    The quotient is (J(θ + h e_i) - J(θ - h e_i)) / 2h, with h = ∛ε. Its error is of the
    order h².
    theta (K, D + 1), phi (m, D + 1) float64, labels (m,)
    """
    h = torch.finfo(theta.dtype).eps ** (1 / 3)
    _, g = gradient(theta, phi, labels)
    columns, most = theta.shape[1], g.abs().max().item()

    def check(i: int) -> Check:
        row, column = divmod(i, columns)
        step = torch.zeros_like(theta)
        step[row, column] = h
        above, below = (gradient(theta + s, phi, labels)[0] for s in (step, -step))
        derivative, quotient = g[row, column].item(), (above - below) / (2 * h)
        return Check(
            row, column, derivative, quotient, abs(derivative - quotient) / most
        )

    drawn = torch.randperm(theta.numel(), generator=generator)[:n]
    return max(map(check, drawn.tolist()), key=lambda check: check.error)
