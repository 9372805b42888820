"""Augmentation: random affine maps, bends and stroke widths that MNIST lacks."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from service.features import Images

LOG_SCALE = (-0.1, 0.2)  # logarithm of the reduction in size, uniform
SHIFT = 0.5  # pixels, uniform in both directions
BEND_POINTS = 6  # per side of an image: where its displacement is drawn
BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes to an image: each but `bend` is uniform in ±limit."""

    rotation: float  # degrees
    log_aspect: float  # logarithm of width over height, halved
    shear: float  # of x by y
    # probabilities that the strokes stay the same, become thicker, thinner, blurred
    strokes: tuple[float, float, float, float]
    bend: float = 0  # pixels: the standard deviation of the elastic displacement


# One for each augmented copy of the data, in the order in which copies are added. The
# first four are for the variety of hands, the sixth for tilted pictures, the seventh
# for wide or narrow hands, the eighth for thin pens.
AUGMENTATIONS = (
    *[Augmentation(10, 0.12, 0.1, (0.55, 0.15, 0.15, 0.15), bend=0.6)] * 4,
    Augmentation(15, 0.15, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Augmentation(30, 0.1, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Augmentation(10, 0.5, 0.1, (0.2, 0.3, 0.3, 0.2)),
    Augmentation(15, 0.15, 0.1, (0.1, 0.2, 0.6, 0.1)),
)


def augment(images: Images, limits: Augmentation, generator: Generator) -> Images:
    """Return randomly changed images: (n, 28, 28) uint8 -> (n, 28, 28) uint8."""
    ink = torch.from_numpy(images.astype(np.float32))[:, None]
    mapped = _affine(ink, limits, generator)
    changed = _change_strokes(mapped, limits, generator)
    return changed[:, 0].round().to(torch.uint8).numpy()


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _affine(ink: Tensor, limits: Augmentation, generator: Generator) -> Tensor:
    """Resample (n, 1, 28, 28) bilinearly: the value at p is taken from A p + t + d(p).

    d is the displacement of a bend, where the limits allow one.
    """

    def draw(low: float, high: float) -> Tensor:
        return _uniform(len(ink), low, high, generator)

    angle = draw(-limits.rotation, limits.rotation) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    scale = draw(*LOG_SCALE).exp()
    aspect = draw(-limits.log_aspect, limits.log_aspect).exp()
    shear = draw(-limits.shear, limits.shear)
    half = ink.shape[-1] / 2  # affine_grid's unit: from the centre to the edge
    matrix = torch.stack(
        [
            *(cos * scale * aspect, cos * shear + sin * scale / aspect),
            draw(-SHIFT, SHIFT) / half,
            *(-sin * scale * aspect, cos * scale / aspect - sin * shear),
            draw(-SHIFT, SHIFT) / half,
        ],
        dim=1,
    ).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(ink.shape), align_corners=False)
    if limits.bend:
        grid += _displacement(ink, limits.bend / half, generator)
    return functional.grid_sample(ink, grid, align_corners=False)


def _displacement(ink: Tensor, deviation: float, generator: Generator) -> Tensor:
    """Draw a smooth displacement of every pixel: (n, 28, 28, 2), in affine_grid's unit.

    Simard, Steinkraus, Platt, "Best practices for convolutional neural networks applied
    to visual document analysis", 2003, smooth one that is drawn at every pixel.
    """
    points = torch.randn(len(ink), 2, BEND_POINTS, BEND_POINTS, generator=generator)
    size = list(ink.shape[-2:])
    smooth = functional.interpolate(points, size, mode="bicubic", align_corners=True)
    return deviation * smooth.permute(0, 2, 3, 1)


def _change_strokes(ink: Tensor, limits: Augmentation, generator: Generator) -> Tensor:
    """Make the strokes of (n, 1, 28, 28) thicker, thinner or blurred at random."""
    n = len(ink)
    probabilities = torch.tensor(limits.strokes, dtype=torch.float32)
    kind = torch.multinomial(probabilities, n, replacement=True, generator=generator)
    share = _uniform(n, 0, 1, generator)[:, None, None, None]
    thick = functional.max_pool2d(ink, 3, stride=1, padding=1)
    corner = functional.pad(ink, (0, 1, 0, 1))
    thin = -functional.max_pool2d(-corner, 2, stride=1)
    blurred = functional.conv2d(ink, BLUR, padding=1)
    kinds = [ink, ink.lerp(thick, share), ink.lerp(thin, share), blurred]
    return torch.stack(kinds)[kind, torch.arange(n)]
