"""Synthetic pen strokes: ten digits by each of ten writers.

A stroke is a list of points (x, y) in the unit square, y down, in the order of drawing.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
Stroke = list[Point]

POINTS_PER_SEGMENT = 4  # of the curve between two control points
SEED = 5

# The variants of each digit: the control points of its strokes, in hundredths of its
# width and height. A stroke has no corners; at a corner the next stroke begins.
VARIANTS = {
    0: [
        ["50,0 12,20 5,60 35,100 80,85 95,40 75,5 48,1"],
        ["70,6 30,5 10,50 30,97 70,95 90,50 68,6 55,0"],
    ],
    1: [["50,0 50,50 50,100"], ["30,25 45,12 55,0", "55,0 55,50 55,100"], ["62,0 50,50 40,100"]],
    2: [
        ["10,25 30,2 70,3 85,30 55,65 10,98", "10,98 50,97 92,96"],
        ["12,20 45,0 82,15 72,50 30,85 10,92 22,80 50,93 95,98"],
    ],
    3: [
        ["12,12 45,0 80,18 65,42 40,48", "40,48 75,55 88,78 50,100 10,88"],
        ["15,3 50,2 85,2", "85,2 45,42", "45,42 80,50 88,80 50,100 10,90"],
    ],
    4: [
        ["30,0 18,30 8,55", "8,55 50,54 95,50", "72,10 70,50 68,100"],
        ["65,0 40,30 5,65", "5,65 50,65 95,65", "68,0 68,50 68,100"],
    ],
    5: [
        ["25,2 20,42", "20,42 55,35 85,60 70,93 35,100 10,90", "25,2 55,2 88,0"],
        ["85,3 50,3 25,5", "25,5 18,45", "18,45 50,38 82,55 78,85 45,100 12,88"],
    ],
    6: [
        ["70,0 35,20 12,60 25,95 60,100 82,75 60,52 30,60 15,75"],
        ["50,0 20,35 12,75 40,100 75,90 75,60 45,50 17,68"],
    ],
    7: [
        ["10,4 50,3 90,2", "90,2 60,50 40,100"],
        ["10,6 50,4 88,2", "88,2 60,50 42,100", "35,50 60,49 85,47"],
    ],
    8: [
        ["75,12 45,0 20,20 45,45 80,72 50,100 15,78 50,47 80,22 70,8"],
        ["50,0 22,20 48,46 78,22 50,0", "48,46 12,74 50,100 88,72 48,46"],
    ],
    9: [
        ["80,20 50,0 18,22 40,48 78,30 82,15", "82,15 80,55 74,100"],
        ["82,18 50,0 20,25 45,50 80,22 78,60 60,92 25,98"],
    ],
}


class Writer(NamedTuple):
    """Handwriting parameters of one writer."""

    slant: float  # shear of x by y
    width: float  # relative to the height
    height: float  # relative to the drawing area
    tremor: float  # standard deviation, relative to the height
    rotation: float  # radians


def writers() -> list[Writer]:
    """Return the ten writers, always the same."""
    generator = np.random.default_rng(SEED)
    return [
        Writer(
            slant=generator.uniform(-0.15, 0.4),
            width=generator.uniform(0.5, 0.85),
            height=generator.uniform(0.35, 0.75),
            tremor=generator.uniform(0.003, 0.012),
            rotation=generator.uniform(-0.12, 0.12),
        )
        for _ in range(10)
    ]


def strokes_of(digit: int, writer: int) -> list[Stroke]:
    """Return the strokes of a digit by one of the ten writers, near the centre."""
    style, variants = writers()[writer], VARIANTS[digit]
    generator = np.random.default_rng([SEED, digit, writer])
    centre = generator.uniform(0.45, 0.55, 2)
    cos, sin = math.cos(style.rotation), math.sin(style.rotation)
    strokes = []
    for stroke in variants[writer % len(variants)]:
        # noise of each control point, and one sine wave along the stroke
        exact = [[int(n) / 100 for n in point.split(",")] for point in stroke.split()]
        control = np.array(exact) + generator.normal(0, style.tremor, (len(exact), 2))
        x, y = (smooth(control) - 0.5).T * style.height
        x = x * style.width - y * style.slant
        phase = np.linspace(0, 2 * math.pi, len(x)) + generator.uniform(0, 6)
        x = x + style.tremor * style.height * np.sin(phase)
        placed = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1) + centre
        strokes.append([(float(a), float(b)) for a, b in placed])
    return strokes


def smooth(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Interpolate points (n, 2) by a Catmull-Rom spline of tension 1/2.

    Returns (4 (n - 1) + 1, 2): Catmull and Rom, "A class of local interpolating
    splines", 1974.
    """
    ends = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, POINTS_PER_SEGMENT, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
        pieces.append((curve + (3 * b - a - 3 * c + d) * t**3) / 2)
    return np.concatenate([*pieces, points[-1:]])
