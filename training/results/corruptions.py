"""Corruptions of test digits: moved, rotated, noisy, coloured or photographed."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from service.features import IMAGE_SIZE, MAX_GREY, Images
from service.images import InvalidImage, read_image

Ink = npt.NDArray[np.floating[Any]]
Corruption = Callable[[Ink, np.random.Generator], bytes]  # ink in [0, 1] -> upload

ROTATION_SIDE = 44  # pixels: fits a digit that is rotated or enlarged
LARGE_SIDE = 200  # pixels
PHOTO_SIDE = 420  # pixels
MAX_SHIFT = 4  # pixels
MAGNIFICATION = 8  # of digits with sharp strokes and of ruled paper
COLOURS = [  # RGB of ink and of paper
    ((240, 220, 40), (255, 255, 255)),
    ((220, 30, 30), (60, 60, 200)),
    ((20, 120, 40), (230, 160, 160)),
    ((250, 250, 250), (20, 80, 50)),
    ((120, 120, 200), (200, 120, 120)),
]


def encoded(levels: Ink, kind: str = "PNG", **options: int) -> bytes:
    """Encode levels (h, w) or (h, w, 3 or 4) in [0, 1] as a picture file."""
    pixels = np.rint(np.clip(levels, 0, 1) * MAX_GREY).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _filtered(ink: Ink, kind: ImageFilter.Filter) -> Ink:
    picture = Image.fromarray(np.rint(ink * MAX_GREY).astype(np.uint8))
    return np.asarray(picture.filter(kind)) / MAX_GREY


def _resized(ink: Ink, side: int) -> Ink:
    picture = Image.fromarray(ink.astype(np.float32))
    resampling = Image.Resampling.BICUBIC
    return np.clip(np.asarray(picture.resize((side, side), resampling), float), 0, 1)


def _placed(ink: Ink, side: int, rng: np.random.Generator, reach: int = 0) -> Ink:
    """Place ink on a square, up to `reach` pixels off centre, or anywhere with 0."""
    free = side - len(ink)
    low, high = (free // 2 - reach, free // 2 + reach + 1) if reach else (0, free + 1)
    y, x = np.clip(rng.integers(low, high, 2), 0, free)
    square = np.zeros((side, side))
    square[y : y + len(ink), x : x + len(ink)] = ink
    return square


def magnified(ink: Ink, factor: float = MAGNIFICATION) -> Ink:
    """Magnify the digit, with strokes as smooth and sharp as those of a pen."""
    large = _resized(ink, round(len(ink) * factor))
    soft = _filtered(large, ImageFilter.GaussianBlur(factor / 4))
    return np.clip((soft - 0.5) * factor / 2 + 0.5, 0, 1)


def ramp(side: int, rng: np.random.Generator) -> Ink:
    """Return a linear gradient from 0 to 1 in a random direction: (side, side)."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side]
    slope = np.cos(angle) * x + np.sin(angle) * y
    return (slope - slope.min()) / np.ptp(slope)


def _shifted(ink: Ink, rng: np.random.Generator) -> bytes:
    y, x = MAX_SHIFT - rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, 2)
    padded = np.pad(ink, MAX_SHIFT)
    return encoded(padded[y : y + len(ink), x : x + len(ink)])


def _rotated(degrees: float) -> Corruption:
    def rotate(ink: Ink, rng: np.random.Generator) -> bytes:
        margin = (ROTATION_SIDE - len(ink)) // 2
        picture = Image.fromarray(np.pad(ink, margin).astype(np.float32))
        angle = degrees * rng.choice([-1, 1])
        rotated = picture.rotate(angle, Image.Resampling.BILINEAR)
        return encoded(np.asarray(rotated, float))

    return rotate


def _rescaled(ink: Ink, rng: np.random.Generator) -> bytes:
    side = round(len(ink) * rng.uniform(0.5, 1.4))
    return encoded(_placed(_resized(ink, side), ROTATION_SIDE, rng, reach=2))


def _small_in_large(ink: Ink, rng: np.random.Generator) -> bytes:
    side = round(len(ink) * rng.uniform(0.8, 1.5))
    return encoded(_placed(_resized(ink, side), LARGE_SIDE, rng))


def _thin(ink: Ink, rng: np.random.Generator) -> bytes:
    corner = np.pad(ink, ((0, 1), (0, 1)))
    views = (corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:])
    return encoded(np.minimum.reduce(views))


def _salted(ink: Ink, rng: np.random.Generator) -> bytes:
    return encoded(np.where(rng.random(ink.shape) < 0.05, 1.0, ink))


def _on_ramp(ink: Ink, rng: np.random.Generator) -> bytes:
    return encoded(ink + 0.4 * ramp(len(ink), rng) * (1 - ink))


def _ruled(ink: Ink, rng: np.random.Generator) -> bytes:
    every = rng.integers(6, 9)
    paper = np.zeros_like(ink)
    paper[rng.integers(every) :: every] = rng.uniform(0.5, 1)
    marks = np.maximum(ink, paper)
    return encoded(1 - np.kron(marks, np.ones((MAGNIFICATION, MAGNIFICATION))))


def _coloured(ink: Ink, rng: np.random.Generator) -> bytes:
    pen, paper = np.array(COLOURS[rng.integers(len(COLOURS))]) / MAX_GREY
    drawn = magnified(ink)[..., np.newaxis]
    return encoded(drawn * pen + (1 - drawn) * paper)


def _transparent(ink: Ink, rng: np.random.Generator) -> bytes:
    drawn = magnified(ink)[..., np.newaxis]
    colour = np.full((*drawn.shape[:2], 3), float(rng.integers(2)))
    return encoded(np.concatenate([colour, drawn], axis=-1))


def _photographed(ink: Ink, rng: np.random.Generator) -> bytes:
    """Simulate a JPEG photo of the digit on grainy paper, half of it in shadow."""
    side = PHOTO_SIDE
    drawn = _placed(magnified(ink, rng.uniform(4, 9)), side, rng)
    drawn = drawn[..., np.newaxis]
    grain = rng.normal(1, 0.03, (side, side, 1))
    paper, pen = np.array([0.88, 0.86, 0.8]) * grain, np.array([0.15, 0.18, 0.4])
    edge = ramp(side, rng) - rng.uniform(0.3, 0.7)
    shadow = 1 / (1 + np.exp(60 * edge))
    light = (1 - 0.4 * shadow) * (0.75 + 0.25 * ramp(side, rng))
    levels = (drawn * pen + (1 - drawn) * paper) * light[..., np.newaxis]
    noise = rng.normal(0, 0.02, levels.shape)
    return encoded(levels + noise, "JPEG", quality=50)


CORRUPTIONS: dict[str, Corruption] = {
    "none": lambda ink, rng: encoded(ink),
    "shift ±4 px": _shifted,
    "rotation ±15°": _rotated(15),
    "rotation ±30°": _rotated(30),
    "size 0.5 to 1.4": _rescaled,
    "small in 200 x 200": _small_in_large,
    "thick": lambda ink, rng: encoded(_filtered(ink, ImageFilter.MaxFilter(3))),
    "thin": _thin,
    "noise σ 0.2": lambda ink, rng: encoded(ink + rng.normal(0, 0.2, ink.shape)),
    "salt 5 %": _salted,
    "dark on light": lambda ink, rng: encoded(1 - ink),
    "faint ink on grey": lambda ink, rng: encoded(0.15 + 0.3 * ink),
    "light ramp": _on_ramp,
    "blur": lambda ink, rng: encoded(_filtered(ink, ImageFilter.GaussianBlur(1))),
    "JPEG, quality 30": lambda ink, rng: encoded(ink, "JPEG", quality=30),
    "ruled lines": _ruled,
    "coloured ink": _coloured,
    "transparent background": _transparent,
    "photo with a shadow": _photographed,
}


def corrupt(images: Images, corruption: Corruption, seed: int) -> list[bytes]:
    """Return a corrupted upload of each image (n, 28, 28)."""
    rng = np.random.default_rng(seed)
    return [corruption(image / MAX_GREY, rng) for image in images]


def read_uploads(
    uploads: list[bytes], read: Callable[[bytes], Images] = read_image
) -> tuple[Images, npt.NDArray[np.bool_]]:
    """Read uploads, each by `read` as an image (28, 28).

    Returns images (n, 28, 28) and a mask (n,) of the refused ones, which are black.
    """
    images = np.zeros((len(uploads), *IMAGE_SIZE), np.uint8)
    refused = np.zeros(len(uploads), bool)
    for i, upload in enumerate(uploads):
        try:
            images[i] = read(upload)
        except InvalidImage:
            refused[i] = True
    return images, refused
