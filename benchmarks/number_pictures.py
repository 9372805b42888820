"""Pictures of numbers: MNIST digits side by side, rendered as the rows of robustness are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from service.features import MAX_GREY
from service.reading.morphology import bounding_box
from training.data.dataset import Digits
from training.results.corruptions import COLOURS, Ink, encoded, ramp

FINE = 6  # subpixels per pixel of an MNIST image while a number is composed
BOX = 20  # pixels: the height of an MNIST digit
GAPS = (0.05, 0.6)  # of a digit's width
SIZES, BASELINE = (0.82, 1.18), 0.12  # factor of the size; of the height, up or down
OVERLAP = 0.06  # of the height: how far two touching digits run into each other
MARGIN = (0.3, 1.0)  # of the height, around a number
PAGE = (300, 420)  # pixels: height and width of a page with a small number


class Drawn(NamedTuple):
    """A number's ink, (h, w) in [0, 1], 20 * FINE pixels high, and what it is."""

    ink: Ink
    text: str


Rendering = Callable[[Ink, np.random.Generator], bytes]


def draw_number(digits: Digits, n: int, rng: np.random.Generator, touching: bool = False) -> Drawn:
    """Place n of the digits in one row, with gaps; one pair of them may touch."""
    rows = rng.integers(len(digits), size=n)
    glyphs = [_glyph(digits.images[i], rng) for i in rows]
    joined = int(rng.integers(1, n)) if touching else 0
    height = BOX * FINE
    canvas = np.zeros((3 * height, sum(glyph.shape[1] for glyph in glyphs) * 2 + 2 * height))
    x = height
    for i, glyph in enumerate(glyphs):
        y = (len(canvas) - len(glyph)) // 2 + int(rng.uniform(-1, 1) * BASELINE * height)
        if i:
            width = (glyph.shape[1] + glyphs[i - 1].shape[1]) / 2
            x += max(2, round(rng.uniform(*GAPS) * width))
        if i and i == joined:
            x = _touching(canvas, glyph, y, x) - round(OVERLAP * height * rng.random())
        place = canvas[y : y + len(glyph), x : x + glyph.shape[1]]
        np.maximum(place, glyph, out=place)
        x += glyph.shape[1]
    ink = canvas[bounding_box(canvas > 0.5)]
    margins = np.rint(rng.uniform(*MARGIN, (2, 2)) * height).astype(int)
    return Drawn(np.pad(ink, margins), "".join(str(digits.labels[i]) for i in rows))


def _glyph(image: Ink, rng: np.random.Generator) -> Ink:
    """Magnify an MNIST image and crop it to its ink, with strokes as smooth as a pen's."""
    factor = FINE * rng.uniform(*SIZES)
    large = Image.fromarray(image).resize((round(28 * factor),) * 2, Image.Resampling.BICUBIC)
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(factor / 4))) / MAX_GREY
    sharp = np.clip((soft - 0.5) * factor / 2 + 0.5, 0, 1)
    return sharp[bounding_box(sharp > 0.5)]


def _touching(canvas: Ink, glyph: Ink, y: int, x: int) -> int:
    """Return the column, left of x, at which a glyph first touches the ink of a canvas."""
    ink, shape = canvas > 0.5, glyph > 0.5
    while x > 0 and not (ink[y : y + len(glyph), x : x + glyph.shape[1]] & shape).any():
        x -= 1
    return x


def _resized(ink: Ink, height: float) -> Ink:
    """Resize a number to digits of so many pixels of height."""
    scale = height / (BOX * FINE)
    size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    picture = Image.fromarray(ink.astype(np.float32))
    return np.clip(np.asarray(picture.resize(size, Image.Resampling.BOX), float), 0, 1)


def _ramp(ink: Ink, rng: np.random.Generator) -> Ink:
    return ramp(max(ink.shape), rng)[: ink.shape[0], : ink.shape[1]]


def _filtered(ink: Ink, kind: ImageFilter.Filter) -> Ink:
    picture = Image.fromarray(np.rint(ink * MAX_GREY).astype(np.uint8))
    return np.asarray(picture.filter(kind)) / MAX_GREY


def _small(ink: Ink, rng: np.random.Generator) -> bytes:
    """Place a number of small digits anywhere on a large page."""
    small = _resized(ink, rng.uniform(18, 34))
    scale = min(1.0, PAGE[1] / small.shape[1])
    small = _resized(ink, small.shape[0] * scale * BOX * FINE / ink.shape[0])
    page = np.zeros((max(PAGE[0], small.shape[0]), max(PAGE[1], small.shape[1])))
    y, x = (int(rng.integers(a - b + 1)) for a, b in zip(page.shape, small.shape, strict=True))
    page[y : y + small.shape[0], x : x + small.shape[1]] = small
    return encoded(1 - page)


def _ruled(ink: Ink, rng: np.random.Generator) -> bytes:
    marks = _resized(ink, rng.uniform(60, 160))
    every = int(len(marks) * rng.uniform(0.1, 0.3))
    for row in range(int(rng.integers(every)), len(marks), every):
        thick = slice(row, row + max(1, len(marks) // 80))
        marks[thick] = np.maximum(marks[thick], rng.uniform(0.5, 1))
    return encoded(1 - marks)


def _coloured(ink: Ink, rng: np.random.Generator) -> bytes:
    pen, paper = np.array(COLOURS[rng.integers(len(COLOURS))]) / MAX_GREY
    drawn = _resized(ink, 120)[..., np.newaxis]
    return encoded(drawn * pen + (1 - drawn) * paper)


def _transparent(ink: Ink, rng: np.random.Generator) -> bytes:
    drawn = _resized(ink, 100)[..., np.newaxis]
    colour = np.full((*drawn.shape[:2], 3), float(rng.integers(2)))
    return encoded(np.concatenate([colour, drawn], axis=-1))


def _photographed(ink: Ink, rng: np.random.Generator) -> bytes:
    """Simulate a JPEG photo of the number on grainy paper, half of it in shadow."""
    margin = int(rng.uniform(0, 2) * BOX * FINE)
    drawn = _resized(np.pad(ink, margin), rng.uniform(60, 110))[..., np.newaxis]
    shape = drawn.shape[:2]
    paper = np.array([0.88, 0.86, 0.8]) * rng.normal(1, 0.03, (*shape, 1))
    pen = np.array([0.15, 0.18, 0.4])
    shadow = 1 / (1 + np.exp(60 * (_ramp(drawn[..., 0], rng) - rng.uniform(0.3, 0.7))))
    light = (1 - 0.4 * shadow) * (0.75 + 0.25 * _ramp(drawn[..., 0], rng))
    levels = (drawn * pen + (1 - drawn) * paper) * light[..., np.newaxis]
    return encoded(levels + rng.normal(0, 0.02, levels.shape), "JPEG", quality=50)


RENDERINGS: dict[str, Rendering] = {
    "none": lambda ink, rng: encoded(_resized(ink, BOX)),
    "dark on light": lambda ink, rng: encoded(1 - _resized(ink, 100)),
    "small on a page": _small,
    "noise σ 0.2": lambda ink, rng: encoded(
        (small := _resized(ink, BOX)) + rng.normal(0, 0.2, small.shape)
    ),
    "faint ink on grey": lambda ink, rng: encoded(0.15 + 0.3 * _resized(ink, 60)),
    "light ramp": lambda ink, rng: encoded(
        (drawn := _resized(ink, 50)) + 0.4 * _ramp(drawn, rng) * (1 - drawn)
    ),
    "blur": lambda ink, rng: encoded(_filtered(_resized(ink, BOX), ImageFilter.GaussianBlur(1))),
    "JPEG, quality 30": lambda ink, rng: encoded(_resized(ink, 40), "JPEG", quality=30),
    "ruled lines": _ruled,
    "coloured ink": _coloured,
    "transparent background": _transparent,
    "photo with a shadow": _photographed,
}
