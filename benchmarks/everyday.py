"""Pictures as people send them: kinds of one digit each, and a mix of these kinds."""

import io
import math
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.scenes import SCENES, placed_anywhere
from benchmarks.uploads import png, test_images
from service.classifier import load
from service.features import MAX_GREY
from service.images import InvalidImage
from service.number import read_one
from service.settings import EMBEDDED_WEIGHTS
from training.results.corruptions import CORRUPTIONS, Corruption, Ink, magnified, ramp

SCAN_SIDE, CANVAS_SIDE, ONE_BIT_SIDE = 100, 280, 200  # pixels
SCREEN = (800, 1280)  # pixels: height and width
DESKTOP = (40, 70, 90)  # RGB
ASPECT = 4 / 3  # of a photo's sides
PHOTO_HEIGHT = (0.25, 0.6)  # of a digit, of the photo's height
PAPER, PEN = (0.88, 0.86, 0.8), (0.15, 0.18, 0.4)  # RGB
NOISE, QUALITY = 0.015, 92  # standard deviation of a camera's levels in [0, 1]; of its JPEG
SHADOW = 0.5  # of the light that is left in a shadow
SEED = 16


def _magnified(
    side: int, share: tuple[float, float], ink: Ink, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Magnify an MNIST image to a share of a square of `side` pixels, and place it there."""
    return placed_anywhere(magnified(ink, side / len(ink) * rng.uniform(*share)), (side, side), rng)


def _levels(levels: Ink) -> npt.NDArray[np.uint8]:
    return np.rint(np.clip(levels, 0, 1) * MAX_GREY).astype(np.uint8)


def _not_framed(ink: Ink, rng: np.random.Generator) -> bytes:
    """Encode an image whose digit is dark, or moved, in 28 x 28 pixels."""
    name = "dark on light" if rng.random() < 0.5 else "shift ±4 px"
    return CORRUPTIONS[name](ink, rng)


def _scan(ink: Ink, rng: np.random.Generator) -> bytes:
    """Encode dark ink on grainy paper, as a flatbed scanner sees it."""
    paper = rng.uniform(0.88, 0.97) + rng.normal(0, 0.012, (SCAN_SIDE, SCAN_SIDE))
    drawn = _magnified(SCAN_SIDE, (0.7, 1), ink, rng)
    return png(_levels(paper + (rng.uniform(0.1, 0.3) - paper) * drawn))


def _canvas(ink: Ink, rng: np.random.Generator) -> bytes:
    """Encode what a browser's canvas saves: opaque RGBA, white on black or the reverse."""
    drawn = _levels(_magnified(CANVAS_SIDE, (0.6, 1), ink, rng))
    grey = Image.fromarray(drawn if rng.random() < 0.5 else MAX_GREY - drawn)
    return png(np.asarray(grey.convert("RGBA")))


def _one_bit(ink: Ink, rng: np.random.Generator) -> bytes:
    """Encode black ink on white in one bit per pixel."""
    file = io.BytesIO()
    drawn = _magnified(ONE_BIT_SIDE, (0.6, 1), ink, rng)
    Image.fromarray(drawn < 0.5).save(file, "PNG")
    return file.getvalue()


def _screenshot(ink: Ink, rng: np.random.Generator) -> bytes:
    """Encode a screen of 1,280 x 800 pixels with a window that shows the digit."""
    window = Image.open(io.BytesIO(SCENES["screenshot"](ink, rng)))
    screen = Image.new("RGB", SCREEN[::-1], DESKTOP)
    corner = [int(rng.integers(b - a)) for a, b in zip(window.size, screen.size, strict=True)]
    screen.paste(window, (corner[0], corner[1]))
    return png(np.asarray(screen))


def _photo(megapixels: float, has_shadow: bool = False) -> Corruption:
    """Return what photographs a digit on paper: a JPEG in uneven light, with noise."""
    height = round(math.sqrt(megapixels * 1e6 / ASPECT))
    size = height, round(height * ASPECT)

    def photograph(ink: Ink, rng: np.random.Generator) -> bytes:
        factor = height * rng.uniform(*PHOTO_HEIGHT) / len(ink)
        drawn = placed_anywhere(magnified(ink, factor), size, rng)
        across = ramp(max(size), rng)[: size[0], : size[1]].astype(np.float32)
        light = 1 - np.float32(rng.uniform(0.1, 0.4)) * across
        if has_shadow:
            edge = ramp(max(size), rng)[: size[0], : size[1]].astype(np.float32)
            shadow = 1 / (1 + np.exp(80 * (edge - np.float32(rng.uniform(0.2, 0.5)))))
            light *= 1 - (1 - SHADOW) * shadow
        pixels = np.empty((*size, 3), np.uint8)
        for i, (paper, pen) in enumerate(zip(PAPER, PEN, strict=True)):
            noise = np.float32(NOISE) * rng.standard_normal(size, np.float32)
            pixels[..., i] = _levels((paper + (pen - paper) * drawn) * light + noise)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()

    return photograph


MNIST = "MNIST PNG"
# the kinds, and how many of each are drawn to be measured
KINDS: dict[str, tuple[Corruption, int]] = {
    MNIST: (CORRUPTIONS["none"], 20),
    "28x28, dark on light": (CORRUPTIONS["dark on light"], 20),
    "28x28, not framed": (_not_framed, 20),
    "scan 100x100": (_scan, 20),
    "canvas 280x280 RGBA": (_canvas, 10),
    "1 bit, 200x200": (_one_bit, 10),
    "screenshot 1280x800": (_screenshot, 5),
    "photo, 1 megapixel": (_photo(1), 5),
    "photo, 4 megapixels": (_photo(4), 3),
    "photo, 12 megapixels": (_photo(12), 2),
    "photo, shadow, 4 megapixels": (_photo(4, has_shadow=True), 3),
}
# in percent
MIX = {
    "canvas 280x280 RGBA": 40,
    "28x28, not framed": 30,
    "scan 100x100": 20,
    "photo, 1 megapixel": 10,
}


def uploads(kind: str, n: int) -> list[bytes]:
    """Draw n pictures of a kind, the same ones every time."""
    rng = np.random.default_rng(SEED)
    return [KINDS[kind][0](image / MAX_GREY, rng) for image in test_images(n)]


def mix(n: int) -> list[bytes]:
    """Return about n pictures of the kinds in MIX, shuffled.

    Those that the shipped weights refuse are left out: load generators count them as failures.
    """
    is_read = reader()
    drawn = [
        each
        for kind, percent in MIX.items()
        for each in uploads(kind, n * percent // 100)
        if is_read(each)
    ]
    random.Random(SEED).shuffle(drawn)
    return drawn


def reader() -> Callable[[bytes], bool]:
    """Return what tells whether the service answers an upload with a digit."""
    shipped = load(EMBEDDED_WEIGHTS)

    def is_read(upload: bytes) -> bool:
        try:
            images = read_one(upload, shipped)[np.newaxis]
        except InvalidImage:
            return False
        return not len(shipped.refused(shipped.score(images)))

    return is_read
