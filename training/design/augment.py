"""Jittered copies of the training images: the hands and pens that MNIST lacks."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from service.features import Images

SIZE = (-0.1, 0.2)  # logarithm of how much smaller, uniform
SHIFT = 0.5  # pixels, uniform in both directions
KERNEL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16


@dataclass(frozen=True)
class Jitter:
    """How far one copy may stray: each amount is drawn uniformly from ±limit."""

    turn: float  # degrees
    aspect: float  # logarithm of width over height, halved
    slant: float  # shear, of x by y
    # probabilities of a stroke that stays, is thicker, is thinner, is blurred
    pen: tuple[float, float, float, float]


# The copies in the order in which they are added. The fourth is for pictures held
# askew, the fifth for hands that write wide or narrow, the sixth for thin pens.
COPIES = (
    Jitter(8, 0.1, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Jitter(8, 0.1, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Jitter(15, 0.15, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Jitter(30, 0.1, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Jitter(10, 0.5, 0.1, (0.2, 0.3, 0.3, 0.2)),
    Jitter(15, 0.15, 0.1, (0.1, 0.2, 0.6, 0.1)),
)


def jittered(images: Images, jitter: Jitter, generator: torch.Generator) -> Images:
    """Turn, stretch, slant, shift and redraw images (n, 28, 28) within the limits."""
    inked = torch.from_numpy(images.astype(np.float32))[:, None]
    moved = _moved(inked, jitter, generator)
    drawn = _redrawn(moved, jitter, generator)
    return drawn[:, 0].round().to(torch.uint8).numpy()


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _moved(inked: Tensor, jitter: Jitter, generator: torch.Generator) -> Tensor:
    """Resample (n, 1, 28, 28) bilinearly, each point p from where A p + t lies."""

    def draw(low: float, high: float) -> Tensor:
        return _uniform(len(inked), low, high, generator)

    angle = draw(-jitter.turn, jitter.turn) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    size, aspect = draw(*SIZE).exp(), draw(-jitter.aspect, jitter.aspect).exp()
    slant = draw(-jitter.slant, jitter.slant)
    half = inked.shape[-1] / 2  # affine_grid's unit: from the middle to the edge
    matrix = torch.stack(
        [
            *(cos * size * aspect, cos * slant + sin * size / aspect),
            draw(-SHIFT, SHIFT) / half,
            *(-sin * size * aspect, cos * size / aspect - sin * slant),
            draw(-SHIFT, SHIFT) / half,
        ],
        dim=1,
    ).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(inked.shape), align_corners=False)
    return functional.grid_sample(inked, grid, align_corners=False)


def _redrawn(inked: Tensor, jitter: Jitter, generator: torch.Generator) -> Tensor:
    """Draw (n, 1, 28, 28) anew with another pen, each stroke as far as it happens."""
    n = len(inked)
    pens = torch.tensor(jitter.pen, dtype=torch.float32)
    pen = torch.multinomial(pens, n, replacement=True, generator=generator)
    share = _uniform(n, 0, 1, generator)[:, None, None, None]
    thick = functional.max_pool2d(inked, 3, stride=1, padding=1)
    corner = functional.pad(inked, (0, 1, 0, 1))
    thin = -functional.max_pool2d(-corner, 2, stride=1)
    blurred = functional.conv2d(inked, KERNEL, padding=1)
    ways = [inked, inked.lerp(thick, share), inked.lerp(thin, share), blurred]
    return torch.stack(ways)[pen, torch.arange(n)]
