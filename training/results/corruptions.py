"""Test digits as people would post them: moved, turned, noisy, photographed."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from service.features import IMAGE_SIZE, MAX_GREY, Images
from service.images import read_image
from service.reading.errors import InvalidImage

Ink = npt.NDArray[np.float64]
Rendering = Callable[[Ink, np.random.Generator], bytes]

ROOM = 44  # pixels a side: where a digit can be turned and grow without being cut
FARTHEST = 4  # pixels of a shift
PHOTO_SIDE = 420
MAGNIFIED = 8  # times: the size of drawn strokes and ruled paper
INKS = [  # red, green and blue of ink and of paper
    ((240, 220, 40), (255, 255, 255)),
    ((220, 30, 30), (60, 60, 200)),
    ((20, 120, 40), (230, 160, 160)),
    ((250, 250, 250), (20, 80, 50)),
    ((120, 120, 200), (200, 120, 120)),
]


def _encoded(
    levels: npt.NDArray[np.float64], kind: str = "PNG", **options: int
) -> bytes:
    """Encode levels (h, w) or (h, w, 3 or 4) in [0, 1] as a file."""
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


def _placed(ink: Ink, side: int, generator: np.random.Generator, reach: int = 0) -> Ink:
    """Put ink onto a square: `reach` pixels from its middle, or, with 0, anywhere."""
    free = side - len(ink)
    low, high = (free // 2 - reach, free // 2 + reach + 1) if reach else (0, free + 1)
    y, x = np.clip(generator.integers(low, high, 2), 0, free)
    sheet = np.zeros((side, side))
    sheet[y : y + len(ink), x : x + len(ink)] = ink
    return sheet


def _magnified(ink: Ink, factor: float = MAGNIFIED) -> Ink:
    """Draw the digit large, its strokes smooth and sharp, as a pen would."""
    large = _resized(ink, round(len(ink) * factor))
    soft = _filtered(large, ImageFilter.GaussianBlur(factor / 4))
    return np.clip((soft - 0.5) * factor / 2 + 0.5, 0, 1)


def _light(side: int, generator: np.random.Generator) -> Ink:
    """Draw a slope from 0 to 1 in some direction: (side, side)."""
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side]
    slope = np.cos(angle) * x + np.sin(angle) * y
    return (slope - slope.min()) / np.ptp(slope)


def _shifted(ink: Ink, generator: np.random.Generator) -> bytes:
    y, x = FARTHEST - generator.integers(-FARTHEST, FARTHEST + 1, 2)
    padded = np.pad(ink, FARTHEST)
    return _encoded(padded[y : y + len(ink), x : x + len(ink)])


def _turned(degrees: float) -> Rendering:
    def render(ink: Ink, generator: np.random.Generator) -> bytes:
        margin = (ROOM - len(ink)) // 2
        picture = Image.fromarray(np.pad(ink, margin).astype(np.float32))
        angle = degrees * generator.choice([-1, 1])
        turned = picture.rotate(angle, Image.Resampling.BILINEAR)
        return _encoded(np.asarray(turned, float))

    return render


def _sized(ink: Ink, generator: np.random.Generator) -> bytes:
    side = round(len(ink) * generator.uniform(0.5, 1.4))
    return _encoded(_placed(_resized(ink, side), ROOM, generator, reach=2))


def _small_in_large(ink: Ink, generator: np.random.Generator) -> bytes:
    side = round(len(ink) * generator.uniform(0.8, 1.5))
    return _encoded(_placed(_resized(ink, side), 200, generator))


def _thin(ink: Ink, generator: np.random.Generator) -> bytes:
    corner = np.pad(ink, ((0, 1), (0, 1)))
    views = (corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:])
    return _encoded(np.minimum.reduce(views))


def _salted(ink: Ink, generator: np.random.Generator) -> bytes:
    return _encoded(np.where(generator.random(ink.shape) < 0.05, 1.0, ink))


def _on_ramp(ink: Ink, generator: np.random.Generator) -> bytes:
    return _encoded(ink + 0.4 * _light(len(ink), generator) * (1 - ink))


def _ruled(ink: Ink, generator: np.random.Generator) -> bytes:
    every = generator.integers(6, 9)
    paper = np.zeros_like(ink)
    paper[generator.integers(every) :: every] = generator.uniform(0.5, 1)
    sheet = np.maximum(ink, paper)
    return _encoded(1 - np.kron(sheet, np.ones((MAGNIFIED, MAGNIFIED))))


def _coloured(ink: Ink, generator: np.random.Generator) -> bytes:
    pen, paper = np.array(INKS[generator.integers(len(INKS))]) / MAX_GREY
    drawn = _magnified(ink)[..., np.newaxis]
    return _encoded(drawn * pen + (1 - drawn) * paper)


def _transparent(ink: Ink, generator: np.random.Generator) -> bytes:
    drawn = _magnified(ink)[..., np.newaxis]
    colour = np.full((*drawn.shape[:2], 3), float(generator.integers(2)))
    return _encoded(np.concatenate([colour, drawn], axis=-1))


def _photographed(ink: Ink, generator: np.random.Generator) -> bytes:
    """Photograph the digit on textured paper, half of it in a shadow, as a JPEG."""
    side = PHOTO_SIDE
    drawn = _placed(_magnified(ink, generator.uniform(4, 9)), side, generator)
    drawn = drawn[..., np.newaxis]
    grain = generator.normal(1, 0.03, (side, side, 1))
    paper, pen = np.array([0.88, 0.86, 0.8]) * grain, np.array([0.15, 0.18, 0.4])
    shadow = 1 / (
        1 + np.exp((_light(side, generator) - generator.uniform(0.3, 0.7)) * 60)
    )
    light = (1 - 0.4 * shadow) * (0.75 + 0.25 * _light(side, generator))
    levels = (drawn * pen + (1 - drawn) * paper) * light[..., np.newaxis]
    return _encoded(
        levels + generator.normal(0, 0.02, levels.shape), "JPEG", quality=50
    )


RENDERINGS: dict[str, Rendering] = {
    "as it is": lambda ink, generator: _encoded(ink),
    "shift ±4 px": _shifted,
    "rotation ±15°": _turned(15),
    "rotation ±30°": _turned(30),
    "size 0.5 to 1.4": _sized,
    "small in 200 x 200": _small_in_large,
    "thick": lambda ink, generator: _encoded(_filtered(ink, ImageFilter.MaxFilter(3))),
    "thin": _thin,
    "noise σ 0.2": lambda ink, generator: _encoded(
        ink + generator.normal(0, 0.2, ink.shape)
    ),
    "salt 5 %": _salted,
    "dark on light": lambda ink, generator: _encoded(1 - ink),
    "faint ink on grey": lambda ink, generator: _encoded(0.15 + 0.3 * ink),
    "light ramp": _on_ramp,
    "blur": lambda ink, generator: _encoded(
        _filtered(ink, ImageFilter.GaussianBlur(1))
    ),
    "JPEG, quality 30": lambda ink, generator: _encoded(ink, "JPEG", quality=30),
    "ruled lines": _ruled,
    "coloured ink": _coloured,
    "transparent ground": _transparent,
    "photo with a shadow": _photographed,
}


def rendered(images: Images, rendering: Rendering, seed: int) -> list[bytes]:
    """Render images (n, 28, 28) as uploads."""
    generator = np.random.default_rng(seed)
    return [rendering(image / MAX_GREY, generator) for image in images]


def read_all(uploads: list[bytes]) -> tuple[Images, npt.NDArray[np.bool_]]:
    """Read uploads as the service does: images (n, 28, 28), and which were refused."""
    images = np.zeros((len(uploads), *IMAGE_SIZE), np.uint8)
    refused = np.zeros(len(uploads), bool)
    for i, upload in enumerate(uploads):
        try:
            images[i] = read_image(upload)
        except InvalidImage:
            refused[i] = True
    return images, refused


def read_naively(upload: bytes) -> npt.NDArray[np.uint8]:
    """Read an upload as most tutorials do: grey, resized, inverted if it is bright."""
    with Image.open(io.BytesIO(upload)) as picture:
        levels = np.asarray(picture.convert("L").resize(IMAGE_SIZE))
    return MAX_GREY - levels if levels.mean() > MAX_GREY / 2 else levels
