"""A hundred digits as strokes: ten hands write all ten, each in its own way.

A stroke is a list of points (x, y) in the unit square, y down, as a pen passes them.
"""

import math
from typing import NamedTuple

import numpy as np

Point = tuple[float, float]
Stroke = list[Point]

BETWEEN = 4  # points of a curve from one of the points below to the next
SEED = 5

# Each way of writing a digit: the points that its strokes pass, in hundredths of its
# width and height. A stroke has no corners: where one would be, the next begins.
WAYS = {
    0: [
        ["50,0 12,20 5,60 35,100 80,85 95,40 75,5 48,1"],
        ["70,6 30,5 10,50 30,97 70,95 90,50 68,6 55,0"],
    ],
    1: [
        ["50,0 50,50 50,100"],
        ["30,25 45,12 55,0", "55,0 55,50 55,100"],
        ["62,0 50,50 40,100"],
    ],
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


class Hand(NamedTuple):
    """How someone writes."""

    slant: float  # of the upright, x to y
    width: float  # over the height
    height: float  # of the sheet
    unsteady: float  # of the height, along a stroke
    turn: float  # radians


def hands() -> list[Hand]:
    """Give ten of them, the same every time."""
    generator = np.random.default_rng(SEED)
    return [
        Hand(
            slant=generator.uniform(-0.15, 0.4),
            width=generator.uniform(0.5, 0.85),
            height=generator.uniform(0.35, 0.75),
            unsteady=generator.uniform(0.003, 0.012),
            turn=generator.uniform(-0.12, 0.12),
        )
        for _ in range(10)
    ]


def written(digit: int, hand: int) -> list[Stroke]:
    """Write a digit by one of the ten hands, somewhere on the sheet."""
    how, ways = hands()[hand], WAYS[digit]
    generator = np.random.default_rng([SEED, digit, hand])
    middle = generator.uniform(0.45, 0.55, 2)
    cos, sin = math.cos(how.turn), math.sin(how.turn)
    strokes = []
    for points in ways[hand % len(ways)]:
        # one wave of unsteadiness along the stroke, and a little of each point's own
        passed = [[int(n) / 100 for n in point.split(",")] for point in points.split()]
        moved = np.array(passed) + generator.normal(0, how.unsteady, (len(passed), 2))
        x, y = (smooth(moved) - 0.5).T * how.height
        x = x * how.width - y * how.slant
        along = np.linspace(0, 2 * math.pi, len(x)) + generator.uniform(0, 6)
        x = x + how.unsteady * how.height * np.sin(along)
        placed = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1) + middle
        strokes.append([(float(a), float(b)) for a, b in placed])
    return strokes


def smooth(points: np.ndarray) -> np.ndarray:
    """Pass a curve through points (n, 2): Catmull and Rom's, of tension 1/2."""
    ends = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, BETWEEN, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
        pieces.append((curve + (3 * b - a - 3 * c + d) * t**3) / 2)
    return np.concatenate([*pieces, points[-1:]])
