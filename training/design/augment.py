"""Augmentation: affine maps, bends, stroke widths and clutter that MNIST lacks."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from service.features import MAX_GREY, Images

LOG_SCALE = (-0.1, 0.2)  # logarithm of the reduction in size, uniform
SHIFT = 0.5  # pixels, uniform in both directions
BEND_POINTS = 6  # per side of an image: where its displacement is drawn
# Lines across a digit, straight, dotted or zigzag: lengths in pixels, uniform
MAX_ANGLE = 60  # degrees from level
OFFSET = 12.0  # of the line's middle from the image's
HALF_LENGTH, HALF_WIDTH = (8.0, 20.0), (0.4, 1.2)
AMPLITUDE, PERIOD, ZIGZAGS = 3.5, (2.5, 7.0), 0.6  # the last: share of the lines
DOT_PERIOD, DOTTED = (2.5, 5.0), 0.2  # the last: share of the lines
STRENGTH = (0.5, 1.0)  # of white
# Specks: the most that become white near the digit and that fade within it
SALT, SALT_REACH, PEPPER = 0.12, 7, 0.25
EDGE_LEVEL, EDGE_CONTRAST = 100, 3  # of the binarisation before an outline is drawn
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
    # probabilities that a line is added, that outlines replace strokes, that specks are added
    clutter: tuple[float, float, float] = (0, 0, 0)


# One for each augmented copy of the data, in the order in which copies are added. The
# first four are for the variety of hands, the sixth for tilted pictures, the seventh for
# wide or narrow hands, the eighth for thin pens, the ninth for marks that are no part of
# the digit.
AUGMENTATIONS = (
    *[Augmentation(10, 0.12, 0.1, (0.55, 0.15, 0.15, 0.15), bend=0.6)] * 4,
    Augmentation(15, 0.15, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Augmentation(30, 0.1, 0.1, (0.4, 0.2, 0.2, 0.2)),
    Augmentation(10, 0.5, 0.1, (0.2, 0.3, 0.3, 0.2)),
    Augmentation(15, 0.15, 0.1, (0.1, 0.2, 0.6, 0.1)),
    Augmentation(8, 0.1, 0.1, (0.4, 0.3, 0.1, 0.2), clutter=(0.28, 0.14, 0.14)),
)


def augment(images: Images, limits: Augmentation, generator: Generator) -> Images:
    """Return randomly changed images: (n, 28, 28) uint8 -> (n, 28, 28) uint8."""
    ink = torch.from_numpy(images.astype(np.float32))[:, None]
    mapped = _affine(ink, limits, generator)
    if any(limits.clutter):
        mapped = _clutter(mapped, limits, generator)
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


def _clutter(ink: Tensor, limits: Augmentation, generator: Generator) -> Tensor:
    """Add a line or specks to (n, 1, 28, 28), or draw outlines only, at random."""
    kinds = [1 - sum(limits.clutter), *limits.clutter]
    probabilities = torch.tensor(kinds, dtype=torch.float32)
    kind = torch.multinomial(probabilities, len(ink), replacement=True, generator=generator)
    cluttered = ink.clone()
    for i, change in enumerate((_add_line, _outline, _add_specks), start=1):
        cluttered[kind == i] = change(ink[kind == i], generator)
    return cluttered


def _add_line(ink: Tensor, generator: Generator) -> Tensor:
    """Draw a straight, dotted or zigzag line across each image (n, 1, 28, 28)."""

    def draw(low: float, high: float) -> Tensor:
        return _uniform(len(ink), low, high, generator)[:, None, None, None]

    def triangle(phase: Tensor) -> Tensor:  # a wave of period 1 between -1 and 1
        return 4 * (phase - phase.floor() - 0.5).abs() - 1

    at = torch.arange(ink.shape[-1]) - (ink.shape[-1] - 1) / 2
    angle = draw(-MAX_ANGLE, MAX_ANGLE) * (math.pi / 180)
    along = at * angle.cos() + at[:, None] * angle.sin()
    across = at[:, None] * angle.cos() - at * angle.sin() - draw(-OFFSET, OFFSET)
    kind = draw(0, 1)
    amplitude, period = draw(0, AMPLITUDE) * (kind < ZIGZAGS), draw(*PERIOD)
    distance = (across - amplitude * triangle(along / period + draw(0, 1))).abs()
    distance /= (1 + (4 * amplitude / period) ** 2).sqrt()
    line = (draw(*HALF_WIDTH) + 0.5 - distance).clamp(0, 1)
    line *= (along - draw(-OFFSET, OFFSET)).abs() < draw(*HALF_LENGTH)
    period = draw(*DOT_PERIOD)
    dots = (period / 2 * triangle(along / period)).clamp(0, 1)
    line = torch.where(kind > 1 - DOTTED, line * dots, line)
    return torch.maximum(ink, MAX_GREY * draw(*STRENGTH) * line)


def _outline(ink: Tensor, generator: Generator) -> Tensor:
    """Replace the strokes of (n, 1, 28, 28) by their outlines, 1 to 2 pixels wide."""
    sharp = ((ink - EDGE_LEVEL) * EDGE_CONTRAST).clamp(0, MAX_GREY)
    edges = functional.max_pool2d(sharp, 3, stride=1, padding=1) - sharp
    wider = functional.max_pool2d(functional.pad(edges, (0, 1, 0, 1)), 2, stride=1)
    return edges.lerp(wider, _uniform(len(ink), 0, 1, generator)[:, None, None, None])


def _add_specks(ink: Tensor, generator: Generator) -> Tensor:
    """Add white specks near the digits of (n, 1, 28, 28) and fade some of their ink."""

    def chosen(most: float) -> Tensor:
        share = _uniform(len(ink), 0, most, generator)[:, None, None, None]
        return torch.rand(ink.shape, generator=generator) < share

    near = functional.max_pool2d(ink, SALT_REACH, stride=1, padding=SALT_REACH // 2)
    faded = torch.where(chosen(PEPPER), ink * torch.rand(ink.shape, generator=generator), ink)
    return torch.where(chosen(SALT), torch.maximum(faded, near), faded)


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
