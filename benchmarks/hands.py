"""Handwriting styles that are rare in MNIST, drawn by synthetic hands.

A shape is text: its digit, then control points x,y in hundredths of its height, y down.
`|` is a corner, `/` lifts the pen. None of these shapes and hands draws training data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from benchmarks.handwriting import VARIANTS, smooth
from service.features import MAX_GREY
from training.results.corruptions import encoded

Points = npt.NDArray[np.float64]  # (n, 2): x, y
Ink = npt.NDArray[np.floating[Any]]  # (h, w) in [0, 1]
Style = Callable[[np.random.Generator], tuple[str, "Hand"]]  # a shape and a hand
Drawing = Callable[[np.random.Generator], tuple[bytes, int]]  # an upload and its label

SIDE = (60, 300)  # pixels, of the canvas
HEIGHT = (0.5, 0.85)  # of the canvas
PEN = (0.025, 0.14)  # of the digit's height: 0.5 to 3 pixels in MNIST's box of 20
THIN = (0.015, 0.035)
SAMPLES = 3  # per pixel and axis, for antialiasing
ONE_BIT = 0.25  # of the canvases have no antialiasing, as those of a paint program
CELLS = (8, 15)  # of a block brush per height
CELL_SIDE = (3, 14)  # pixels

SHAPES = {
    "tilde 7": [
        "7 2,24 11,5 | 28,13 50,15 74,4 95,0 | 74,45 55,100 / 32,55 88,49",
        "7 4,20 12,2 | 26,11 44,15 66,8 84,0 92,10 76,45 58,100 / 32,50 88,46",
        "7 0,18 14,1 30,7 48,15 66,10 88,-3 | 66,50 48,100 / 30,56 84,50",
        "7 4,36 14,6 | 34,16 54,16 86,2 | 60,46 56,102 / 20,50 60,48 88,46",
        "7 0,40 16,2 24,12 44,20 66,12 80,0 | 64,46 50,100 / 24,54 88,46",
        "7 8,34 12,8 22,2 36,14 54,16 68,4 78,8 66,46 58,100 / 30,48 92,44",
    ],
    "looped or spiral 6": [
        "6 36,34 55,17 64,5 59,-2 46,9 25,40 13,68 26,95 52,101 78,84 68,60 40,56 17,74",
        "6 80,8 68,-1 44,10 20,42 12,72 28,98 58,101 82,80 70,58 44,57 34,74 46,86 60,78",
        "6 30,30 50,22 64,10 60,0 50,0 38,14 22,44 16,74 34,100 70,94 76,72 54,58 22,70",
        "6 68,24 76,10 60,-1 36,12 16,50 16,82 42,101 74,92 80,70 58,54 28,62 16,76",
    ],
    "angular 6": [
        "6 62,0 | 12,64 | 26,99 | 80,93 | 74,58 | 17,67",
        "6 58,0 | 14,50 | 16,100 | 82,98 | 78,56 | 15,58",
        "6 20,0 | 16,100 | 72,96 | 70,54 | 18,58",
        "6 66,0 | 10,70 | 54,100 | 88,66 | 16,72",
        "6 70,2 | 30,30 | 12,70 | 40,100 | 84,78 | 52,52 | 14,72",
    ],
    "curled or hooked 9": [
        "9 82,18 58,0 28,8 18,28 36,45 62,40 82,18 | 86,55 72,92 42,101 18,88 22,74",
        "9 80,6 46,0 20,20 38,46 78,34 | 82,4 | 82,62 62,98 24,99 10,84",
        "9 54,24 44,12 64,0 84,14 72,40 44,46 24,28 40,4 70,2 84,20 82,60 70,100",
        "9 82,18 58,0 28,8 18,28 36,45 62,40 82,18 | 87,55 78,90 46,101 18,92 14,74 34,66",
        "9 74,12 46,0 20,16 26,40 54,44 80,24 | 84,60 66,96 34,100 12,88",
        "9 84,10 52,0 22,18 36,46 74,34 84,10 | 80,50 56,84 14,100",
    ],
    "closed 4": [
        "4 62,0 | 8,66 | 94,66 / 62,0 62,100",
        "4 64,1 32,34 12,63 | 50,65 94,60 / 64,1 61,50 58,100",
        "4 94,58 50,63 10,61 | 38,28 68,0 | 66,50 62,100",
        "4 58,2 | 6,58 | 88,62 / 58,2 | 74,100",
        "4 70,0 | 22,16 | 10,60 | 92,58 / 70,0 | 66,100",
    ],
}
BLOCKS = [  # right angles: a mouse and a square brush
    "0 0,0 | 64,0 | 64,100 | 0,100 | 0,0",
    "0 15,0 | 50,0 | 66,20 | 66,80 | 50,100 | 15,100 | 0,80 | 0,20 | 15,0",
    "1 30,0 | 30,100",
    "1 8,22 | 32,0 | 32,100",
    "1 10,20 | 30,0 | 30,100 / 5,100 | 60,100",
    "2 0,0 | 64,0 | 64,48 | 0,52 | 0,100 | 64,100",
    "2 0,18 | 14,0 | 60,0 | 60,36 | 0,100 | 66,100",
    "3 0,0 | 64,0 | 64,100 | 0,100 / 16,50 | 64,50",
    "3 0,0 | 64,0 | 30,42 | 64,56 | 64,100 | 0,100",
    "4 0,0 | 0,55 | 68,55 / 56,0 | 56,100",
    "4 50,0 | 0,64 | 76,64 / 50,0 | 50,100",
    "5 64,0 | 0,0 | 0,46 | 64,50 | 64,100 | 0,100",
    "5 60,0 | 4,0 | 4,44 | 50,44 | 64,60 | 64,84 | 48,100 | 0,100",
    "6 64,0 | 0,0 | 0,100 | 64,100 | 64,50 | 0,50",
    "6 44,0 | 0,36 | 0,100 | 62,100 | 62,52 | 0,52",
    "7 0,0 | 68,0 | 68,24 | 30,100",
    "7 0,0 | 64,0 | 64,100",
    "8 0,0 | 64,0 | 64,100 | 0,100 | 0,0 / 0,50 | 64,50",
    "9 64,50 | 0,50 | 0,0 | 64,0 | 64,100 | 0,100",
    "9 62,48 | 0,48 | 0,0 | 62,0 | 62,100",
]


class Hand(NamedTuple):
    """How a shape is written; lengths are relative to the digit's height."""

    pen: float
    width: float = 1.0  # of the shape's own
    slant: float = 0.0  # shear of x by y
    tremor: float = 0.01  # standard deviation of each control point
    rotation: float = 0.0  # radians


def any_hand(rng: np.random.Generator, pen: tuple[float, float] = PEN) -> Hand:
    """Return a hand of random pen, width, slant, tremor and rotation."""
    return Hand(
        pen=np.exp(rng.uniform(*np.log(pen))),
        width=rng.uniform(0.6, 1.0),
        slant=rng.uniform(-0.1, 0.35),
        tremor=rng.uniform(0.004, 0.022),
        rotation=rng.uniform(-0.09, 0.09),
    )


def strokes_of(shape: str, hand: Hand, rng: np.random.Generator) -> list[Points]:
    """Write a shape by a hand: strokes (n, 2) in units of the height, about (0, 0)."""
    cos, sin = np.cos(hand.rotation), np.sin(hand.rotation)
    shear = np.array([[hand.width, -hand.slant], [0, 1]])
    to_unit = np.array([[cos, -sin], [sin, cos]]) @ shear
    strokes = []
    for stroke in shape[1:].split("/"):
        pieces: list[Points] = []
        for piece in stroke.split("|"):
            control = np.array([point.split(",") for point in piece.split()], float) / 100
            control += rng.normal(0, hand.tremor, control.shape)
            if pieces:  # a corner is the last point of the piece before
                control = np.concatenate([pieces[-1][-1:], control])
            pieces.append(smooth(smooth(control)) if len(control) > 2 else control)
        strokes.append((np.concatenate(pieces) - 0.5) @ to_unit.T)
    return strokes


def plain_strokes(digit: int, hand: Hand, rng: np.random.Generator) -> list[Points]:
    """Write a digit in one of the usual shapes, as `strokes_of` does."""
    variants = VARIANTS[digit]
    shape = " / ".join(variants[rng.integers(len(variants))])
    return strokes_of(f"{digit} {shape}", hand, rng)


def placed(
    strokes: list[Points],
    size: tuple[int, int],
    height: float,
    rng: np.random.Generator,
    margin: float = 0.25,
) -> list[Points]:
    """Scale strokes to a share of the height of (h, w) pixels and place them anywhere.

    `margin` of the free room stays free on each side. A digit that would be wider than
    the picture is made smaller.
    """
    points = np.concatenate(strokes)
    low, extent = points.min(0), np.ptp(points, axis=0)
    bounds = np.array(size[::-1], float)
    scale = height * min(bounds[1] / extent[1], bounds[0] / max(extent[0], 1e-9))
    corner = (bounds - scale * extent) * rng.uniform(margin, 1 - margin, 2)
    return [(stroke - low) * scale + corner for stroke in strokes]


def ink_of(
    strokes: list[Points], size: tuple[int, int], pen: float, rng: np.random.Generator
) -> Ink:
    """Draw strokes by a round pen, in pixels, whose pressure varies: (h, w) in [0, 1]."""
    picture = Image.new("L", (size[1] * SAMPLES, size[0] * SAMPLES))
    canvas = ImageDraw.Draw(picture)
    for stroke in strokes:
        dense = _resampled(stroke * SAMPLES, step=max(1.0, pen * SAMPLES / 8))
        phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2)
        pressure = np.sin(phase + 2 * np.pi * waves * np.linspace(0, 1, len(dense)))
        for (x, y), radius in zip(dense, pen * SAMPLES / 2 * (1 + 0.15 * pressure), strict=True):
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=MAX_GREY)
    return np.asarray(picture.reduce(SAMPLES), np.float32) / MAX_GREY


def _resampled(points: Points, step: float) -> Points:
    """Return points (n, 2) of a polyline at most `step` apart."""
    lengths = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0], np.cumsum(lengths)])
    at = np.linspace(0, along[-1], 2 + int(along[-1] / step))
    return np.stack([np.interp(at, along, axis) for axis in points.T], axis=1)


def flagged_one(rng: np.random.Generator) -> tuple[str, Hand]:
    """Draw a 1 without base whose flag goes down-left, steeper than the bar of a 7."""
    lean = np.radians(rng.uniform(0, 25))
    # between flag and stem a wedge of 25° or more stays open
    flag = np.radians(rng.uniform(30, min(60, 65 - np.degrees(lean))))
    length = 100 * rng.uniform(0.25, 0.6)
    x, y = 100 * np.sin(lean), 100 * np.cos(lean)
    bend = rng.uniform(-4, 4)
    shape = (
        f"1 {x - length * np.cos(flag):.1f},{length * np.sin(flag):.1f} | {x:.1f},0 | "
        f"{x / 2 + bend:.1f},{y / 2:.1f} 0,{y:.1f}"
    )
    pen = any_hand(rng).pen
    return shape, Hand(pen, tremor=0.01)


def barred_seven(rng: np.random.Generator) -> tuple[str, Hand]:
    """Draw a 7 whose bar is level or rises to the right: the contrast to a flagged 1."""
    lean = np.radians(rng.uniform(5, 35))
    length = 100 * rng.uniform(0.4, 0.75)
    rise = length * np.tan(np.radians(rng.uniform(0, 10)))
    foot = length - 100 * np.tan(lean)
    shape = f"7 0,{rise:.1f} | {length:.1f},0 | {foot:.1f},100"
    return shape, Hand(any_hand(rng).pen, tremor=0.01)


def small_headed_eight(rng: np.random.Generator) -> tuple[str, Hand]:
    """Draw an 8 in one stroke whose head is 20 to 36 % as high as the whole."""
    waist, head, body = rng.uniform(20, 36), rng.uniform(9, 16), rng.uniform(24, 38)
    turn = np.radians(np.arange(0, 360, 45))
    side = rng.choice([-1, 1])  # of the body that the pen reaches first
    x = 50 + np.concatenate([head * np.sin(turn), side * body * np.sin(turn), [0]])
    y = np.concatenate([(1 + np.cos(turn)) / 2, (1 - np.cos(turn)) / 2, [0]])
    y = np.where(np.arange(len(y)) < len(turn), waist * y, waist + (100 - waist) * y)
    # strokes that cross have no level tangent at the waist
    y[1 : len(turn) : len(turn) - 2] -= waist * rng.uniform(0, 0.2)
    shape = "8 " + " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
    return shape, any_hand(rng, (0.02, head / 120))._replace(tremor=0.008)


def small_opening(rng: np.random.Generator) -> tuple[str, Hand]:
    """Draw a digit by a thin pen with a gap or a counter that a thick pen would close."""
    hand = any_hand(rng, THIN)._replace(tremor=0.006)
    gap = rng.uniform(5, 11) + 100 * hand.pen  # from centre to centre of the strokes
    head = rng.uniform(15, 24)
    half = head / 2
    shapes = [
        f"3 34,{46 - gap:.0f} 14,18 44,0 78,18 64,40 36,46 | 66,50 86,74 52,100 10,90",
        f"5 84,0 | 28,0 | 22,42 | 54,34 82,60 70,92 40,100 14,84 20,{42 + gap:.0f}",
        f"9 70,{half:.0f} 50,0 34,{half:.0f} 50,{head:.0f} 70,{half:.0f} | 68,50 58,100",
        f"4 66,{64 - head:.0f} 30,64 | 92,62 / 72,0 66,{64 - head:.0f} 62,100",
        f"6 66,0 34,40 22,78 38,100 60,{100 - half:.0f} 44,{100 - head:.0f} 24,86",
        f"2 20,{12 + gap:.0f} 14,14 44,0 80,20 56,60 14,100 | 88,98",
    ]
    return str(rng.choice(shapes)), hand


def _draw_style(style: Style, rng: np.random.Generator) -> tuple[bytes, int]:
    """Draw a digit of a style on a canvas of random side: an upload and its label."""
    shape, hand = style(rng)
    side = int(rng.integers(*SIDE))
    height = rng.uniform(*HEIGHT)
    strokes = placed(strokes_of(shape, hand, rng), (side, side), height, rng)
    ink = ink_of(strokes, (side, side), max(1.0, hand.pen * height * side), rng)
    return _on_canvas(ink, rng), int(shape[0])


def _draw_blocks(rng: np.random.Generator) -> tuple[bytes, int]:
    """Draw a digit with a square brush on coarse cells: an upload and its label."""
    shape = str(rng.choice(BLOCKS))
    cells = int(rng.integers(*CELLS))
    brush = int(rng.integers(1, 1 + cells // 5))
    hand = Hand(0, width=rng.uniform(0.8, 1.1), tremor=0.012)
    marks = np.zeros((cells + 6, cells + 6))
    corner = rng.integers(2, 5, 2)  # x, y of the digit in cells
    for stroke in strokes_of(shape, hand, rng):
        scaled = (_resampled(stroke, 0.02) + 0.5) * (cells - brush) + corner
        for x, y in np.rint(scaled).astype(int):
            marks[y : y + brush, x : x + brush] = 1
    cell = int(rng.integers(*CELL_SIDE))
    return _on_canvas(np.kron(marks, np.ones((cell, cell))), rng), int(shape[0])


def _on_canvas(ink: Ink, rng: np.random.Generator) -> bytes:
    """Encode ink (h, w) as a PNG of random polarity."""
    if rng.random() < ONE_BIT:
        ink = np.rint(ink)
    paper, pen = rng.uniform(0.9, 1), rng.uniform(0, 0.25)
    if rng.random() < 0.5:
        paper, pen = 1 - paper, 1 - pen
    return encoded(paper + (pen - paper) * ink)


def _style(style: Style) -> Drawing:
    return lambda rng: _draw_style(style, rng)


def _one_of(name: str) -> Style:
    return lambda rng: (str(rng.choice(SHAPES[name])), any_hand(rng))


STYLES: dict[str, Drawing] = {
    "flagged 1": _style(flagged_one),
    "7 with a level bar": _style(barred_seven),
    **{name: _style(_one_of(name)) for name in SHAPES},
    "8 with a small head": _style(small_headed_eight),
    "block brush": _draw_blocks,
    "small openings": _style(small_opening),
}
