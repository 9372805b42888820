"""Scenes around one digit: photos, faint lines, dark edges, tiny crops and pages.

A scene of SCENES is made of a test digit of MNIST, one of DRAWN of synthetic strokes.
"""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.hands import THIN, Drawing, Ink, Points, any_hand, ink_of, placed, plain_strokes
from service.features import MAX_GREY
from training.results.corruptions import Corruption, encoded, magnified, ramp
from training.results.plots import subplots

PHOTO = (960, 1280)  # pixels: height and width
PHOTO_PEN = (3, 6)  # pixels
PAPER = np.array([0.9, 0.88, 0.82], np.float32)  # RGB
CREASES = (1, 5)
CREASE_WIDTH = (0.006, 0.03)  # of the longer side
FAINT_SIDE = (200, 320)  # pixels
STRIP_SIDE = (240, 640)  # pixels
STRIP_MARGIN = 0.14  # of the side: strips are narrower
BRUSH_SIDE, BRUSH = 100, (20, 28)  # pixels
CROP_SIDE, CROP_DIGIT = 32, (8, 12)  # pixels: of the crop, the digit's height
CROP_SAMPLES = 6  # per pixel and axis
MNIST_BOX = 20  # pixels, the digit's height in an MNIST image
MARKED, MARKED_MARGIN = 8, 90  # magnification of a marked digit; pixels around it
TITLES = ("Digit", "Sample 17", "Input image", "index: 203", "MNIST")
COLOUR_MAPS = ("gray", "gray", "gray_r", "binary", "viridis")  # matplotlib's


def _plain(
    size: tuple[int, int],
    pen: tuple[float, float],
    height: tuple[float, float],
    rng: np.random.Generator,
    large: bool = False,
) -> tuple[Ink, int]:
    """Draw a digit by a pen in pixels, of a share of the height: ink (h, w), label.

    A large one may be wide and ends near the borders.
    """
    label, hand = int(rng.integers(10)), any_hand(rng, THIN)
    if large:
        hand = hand._replace(width=rng.uniform(0.7, 1.4))
    margin = 0.05 if large else 0.25
    strokes = placed(plain_strokes(label, hand, rng), size, rng.uniform(*height), rng, margin)
    return ink_of(strokes, size, rng.uniform(*pen), rng), label


def _photo(ink: Ink, colour: Ink, marks: Ink, rng: np.random.Generator) -> bytes:
    """Encode a JPEG of ink on marked paper (h, w, 3) under uneven light.

    The corners are dark (vignette), and soft creases are light, dark or both in turn.
    """
    h, w = ink.shape
    y, x = np.mgrid[:h, :w].astype(np.float32) / max(h, w)
    # Python's numbers leave arrays in float32, which halves the cost
    centre_y, centre_x = (side / max(h, w) / 2 + rng.uniform(-0.15, 0.15) for side in (h, w))
    light = 1 - rng.uniform(0.5, 2) * ((y - centre_y) ** 2 + (x - centre_x) ** 2)
    for _ in range(rng.integers(*CREASES)):
        angle = rng.uniform(0, math.pi)
        across = math.sin(angle) * (y - rng.random()) + math.cos(angle) * (x - rng.random())
        across /= rng.uniform(*CREASE_WIDTH)
        profile = rng.uniform(-0.8, 0.8) + rng.uniform(-0.6, 0.6) * across
        light += rng.uniform(0.04, 0.16) * profile * np.exp(-(across**2))
    light += 0.012 * rng.standard_normal((h, w), np.float32)
    colour = colour.astype(np.float32)
    levels = (marks + (colour - marks) * ink[..., np.newaxis]) * light[..., np.newaxis]
    return encoded(levels, "JPEG", quality=int(rng.integers(60, 92)))


def photographed_line(rng: np.random.Generator) -> tuple[bytes, int]:
    """Photograph a digit drawn by a thin dark pen on plain paper."""
    ink, label = _plain(PHOTO, PHOTO_PEN, (0.25, 0.9), rng)
    pen = rng.uniform(0.15, 0.5) * np.array([1, 1, rng.uniform(1, 1.8)])
    return _photo(ink, pen, PAPER * rng.uniform(0.8, 1), rng), label


def pencil_on_squares(rng: np.random.Generator) -> tuple[bytes, int]:
    """Photograph a digit in pencil on paper with blue lines and dotted verticals."""
    ink, label = _plain(PHOTO, (4, 8), (0.3, 0.7), rng)
    every = int(rng.integers(110, 400))  # pixels: 2.5 cm
    lines = np.zeros((*PHOTO, 1), np.float32)
    for row in range(rng.integers(every), PHOTO[0], every):
        lines[row : row + rng.integers(2, 5)] = 1
    dash = int(rng.integers(6, 14))
    dots = np.arange(PHOTO[0]) // dash % 2 == 0
    for column in range(rng.integers(every), PHOTO[1], every):
        lines[dots, column : column + 3] = 1
    blue = np.array([0.5, 0.62, 0.85], np.float32) * rng.uniform(0.85, 1.05)
    marks = PAPER + (blue - PAPER) * lines
    pencil = np.full(3, rng.uniform(0.3, 0.45))
    return _photo(0.9 * ink, pencil, marks, rng), label


def _wave(side: int, rng: np.random.Generator) -> Ink:
    """Return one to three waves from 0 to 1 in a random direction: (side, side)."""
    phase = rng.uniform(1, 3) * ramp(side, rng) + rng.random()
    return (1 + np.sin(2 * np.pi * phase)) / 2


def _large(contrast: tuple[float, float]) -> Drawing:
    def draw(rng: np.random.Generator) -> tuple[bytes, int]:
        """Draw a digit in a line of 1 to 2 pixels over most of the canvas."""
        side = int(rng.integers(*FAINT_SIDE))
        ink, label = _plain((side, side), (1, 2), (0.6, 0.97), rng, large=True)
        # a pencil leaves grains, and its pressure varies
        grain, pressure = rng.random(ink.shape), _wave(side, rng)
        ink = ink * (1 - rng.uniform(0, 0.5) * grain) * (1 - rng.uniform(0, 0.5) * pressure)
        step = rng.uniform(*contrast) * rng.choice([-1, 1])
        paper = rng.uniform(0.75, 1) if step < 0 else rng.uniform(0, 0.25)
        noise = rng.normal(0, rng.uniform(0, 0.018), ink.shape)
        light = 1 - rng.uniform(0, 0.35) * ramp(side, rng)
        return encoded((paper + step * ink) * light + noise), label

    return draw


def dark_strip(rng: np.random.Generator) -> tuple[bytes, int]:
    """Photograph a digit below or beside a spiral binding or the edge of a dark table."""
    side = int(rng.integers(*STRIP_SIDE))
    margin = round(STRIP_MARGIN * side)
    inner = (side - 2 * margin, side - 2 * margin)
    pen = (0.006 * side, 0.05 * side)
    ink, label = _plain(inner, pen, (0.5, 0.98), rng)
    ink = np.pad(ink, margin)
    strip = np.rot90(_strip(side, rng), rng.choice([0, 1, 3]))  # along the top or a side
    paper, dark, table = rng.uniform(0.8, 1), rng.uniform(0.05, 0.5), rng.uniform(0, 0.4)
    levels = paper + (dark - paper) * ink
    levels = (levels + (table - levels) * strip) * (1 - rng.uniform(0, 0.4) * ramp(side, rng))
    return encoded(levels + rng.normal(0, 0.01, ink.shape), "JPEG", quality=85), label


def _strip(side: int, rng: np.random.Generator) -> Ink:
    """Return a dark strip near the top, plain or with holes: (side, side) in [0, 1]."""
    depth = side * rng.uniform(0.03, 0.1)
    y, x = np.mgrid[:side, :side]
    if rng.random() < 0.3:  # there is paper beyond the strip
        y = np.abs(y - side * rng.uniform(0.01, 0.03) - depth / 2) + depth / 2
    if rng.random() < 0.5:
        slope = np.tan(np.radians(rng.normal(0, 1.5)))
        return np.clip((depth + slope * x - y) / rng.uniform(1, 6) + 0.5, 0, 1)
    every = side / rng.integers(9, 20)  # holes with dark wire through them
    hole = np.hypot((x % every - every / 2) / (0.35 * every), (y - depth / 2) / (0.4 * depth))
    return np.where(y < depth, np.where(hole < 1, 1, rng.uniform(0.5, 0.9)), 0)


def fat_brush(rng: np.random.Generator) -> tuple[bytes, int]:
    """Draw white on black with a brush so fat that the digit touches the borders."""
    size = (BRUSH_SIDE, BRUSH_SIDE)
    label = int(rng.integers(10))
    pen = rng.uniform(*BRUSH)
    hand = any_hand(rng, THIN)._replace(width=rng.uniform(1, 1.3), slant=rng.uniform(-0.1, 0.1))
    # the centre line leaves a margin of less than half a brush
    inner = BRUSH_SIDE - int(rng.uniform(0.5, 0.9) * pen)
    strokes = placed(plain_strokes(label, hand, rng), (inner, inner), 1, rng)
    offset = (BRUSH_SIDE - inner) / 2
    return encoded(ink_of([stroke + offset for stroke in strokes], size, pen, rng)), label


def _camera_crop(ink: Ink, rng: np.random.Generator) -> bytes:
    """Take a 32×32 crop of a noisy colour photo with a digit of 8 to 12 pixels."""
    side = CROP_SIDE * CROP_SAMPLES
    drawn = magnified(ink, CROP_SAMPLES * rng.uniform(*CROP_DIGIT) / MNIST_BOX)
    y, x = np.rint((0.5 + rng.uniform(-0.4, 0.4, 2)) * (side - len(drawn))).astype(int)
    scene = np.zeros((side, side))
    scene[y : y + len(drawn), x : x + len(drawn)] = drawn
    fine = scene.reshape(CROP_SIDE, CROP_SAMPLES, CROP_SIDE, CROP_SAMPLES).mean((1, 3))
    light = (1 - rng.uniform(0, 0.25) * ramp(CROP_SIDE, rng))[..., np.newaxis]
    cast = rng.uniform(0.75, 1, 3)
    levels = (rng.uniform(0.55, 0.95) - rng.uniform(0.3, 0.5) * fine)[..., np.newaxis] * cast
    levels = levels * light
    if rng.random() < 0.4:  # a sliver of desk
        np.rot90(levels, rng.choice(4))[: rng.integers(1, 4)] = rng.uniform(0, 0.45, 3)
    noise = rng.uniform(0.02, 0.04)
    levels += rng.normal(0, noise, fine.shape)[..., np.newaxis]
    return encoded(levels + rng.normal(0, noise, levels.shape))


def _tile(ink: Ink, rng: np.random.Generator) -> Ink:
    """Enlarge an MNIST image with pixels as squares, or smooth."""
    if rng.random() < 0.5:
        factor = int(rng.integers(4, 11))
        return np.kron(ink, np.ones((factor, factor)))
    return magnified(ink, rng.uniform(4, 11))


def _plate(ink: Ink, rng: np.random.Generator) -> bytes:
    """Place a black tile with a white digit on a white page, or the reverse."""
    tile = _tile(ink, rng)
    margins = rng.uniform(0.08, 0.6, (2, 2)) * len(tile)
    page = np.pad(tile, np.rint(margins).astype(int), constant_values=rng.uniform(0.9, 1))
    return encoded(page if rng.random() < 0.5 else 1 - page)


def _screenshot(ink: Ink, rng: np.random.Generator) -> bytes:
    """Place a tile in a window with a title bar, a frame and buttons on a desktop."""
    tile = _tile(ink, rng) if rng.random() < 0.7 else 1 - _tile(ink, rng)
    side, pad = len(tile), int(rng.integers(8, 40))
    bar, foot = int(rng.integers(22, 34)), int(rng.integers(0, 2) * 44)
    width, height = side + 2 * pad, bar + side + 2 * pad + foot
    face = int(rng.integers(190, 255))
    window = Image.new("RGB", (width, height), (face, face, face))
    pencil = ImageDraw.Draw(window)
    title = (60, 90, 160) if rng.random() < 0.5 else (face - 20, face - 20, face - 20)
    pencil.rectangle((0, 0, width, bar), title)
    font = ImageFont.load_default(12)
    pencil.text((10, bar // 2 - 7), str(rng.choice(TITLES)), (20, 20, 20), font)
    for i, colour in enumerate(((230, 80, 70), (240, 190, 60), (90, 200, 80))):
        pencil.circle((width - 14 - 16 * i, bar // 2), 5, colour)
    if foot:
        for i, text in enumerate(("Clear", "Predict")):
            x, y = pad + i * 64, height - foot + 2
            pencil.rounded_rectangle((x, y, x + 56, y + 26), 5, (225, 225, 225), (120, 120, 120))
            pencil.text((x + 8, y + 6), text, (20, 20, 20), font)
    grey = Image.fromarray(np.rint(tile * MAX_GREY).astype(np.uint8))
    window.paste(grey, (pad, bar + pad))
    margin = int(rng.integers(0, 30))
    desktop = Image.new("RGB", (width + 2 * margin, height + 2 * margin), (40, 70, 90))
    desktop.paste(window, (margin, margin))
    return encoded(np.asarray(desktop) / MAX_GREY)


def _figure(ink: Ink, rng: np.random.Generator) -> bytes:
    """Save matplotlib's figure of the image, with axes or a title or both."""
    inches = rng.uniform(2.5, 5)
    figure, (axes,) = subplots(size=(inches * rng.uniform(1, 1.4), inches))
    axes.imshow(ink, cmap=str(rng.choice(COLOUR_MAPS)))
    if rng.random() < 0.25:
        axes.axis("off")
    if rng.random() < 0.75:
        axes.set_title(str(rng.choice(TITLES)))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=int(rng.integers(60, 110)))
    return file.getvalue()


def _marked(ink: Ink, marks: list[Points], pen: float, rng: np.random.Generator) -> bytes:
    """Draw lines beside a digit by a pen in pixels, white on black or the reverse."""
    levels = np.maximum(ink, ink_of(marks, ink.shape, pen, rng))
    return encoded(levels if rng.random() < 0.5 else 1 - 0.9 * levels)


def _with_room(ink: Ink) -> tuple[Ink, Points, Points]:
    """Magnify a digit; return it with the centre (x, y) of its box and half its extent."""
    drawn = np.pad(magnified(ink, MARKED), MARKED_MARGIN)
    points = np.argwhere(drawn > 0.1)[:, ::-1]
    low, high = points.min(0), points.max(0) + 1
    return drawn, (low + high) / 2, (high - low) / 2


def _underlined(ink: Ink, rng: np.random.Generator) -> bytes:
    """Draw one or two lines below a digit, which do not touch it."""
    drawn, (x, y), (half_width, half_height) = _with_room(ink)
    pen = rng.uniform(6, 18)
    across = np.linspace(-1, 1, 9) * max(half_width, 30) * rng.uniform(0.8, 1.5)
    marks, lowest = [], y + half_height
    for _ in range(rng.choice([1, 1, 2])):
        line = across * rng.uniform(-0.06, 0.06) + rng.uniform(-1, 1, 9)
        line += lowest + pen + rng.uniform(4, 16) - line.min()
        marks.append(np.stack([x + across, line], axis=1))
        lowest = line.max() + pen / 2
    return _marked(drawn, marks, pen, rng)


def _circled(ink: Ink, rng: np.random.Generator) -> bytes:
    """Draw a circle around a digit, whose ends may not meet."""
    drawn, centre, half = _with_room(ink)
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.linspace(0, rng.uniform(0.9, 1.1), 90)
    radius = 1 + rng.uniform(-0.05, 0.05) * np.sin(2 * angle + rng.uniform(0, 2 * np.pi))
    radius *= 1 + rng.uniform(-0.06, 0.06) * np.linspace(-1, 1, len(angle))
    radii = max(np.hypot(*half), 80) * rng.uniform(1.35, 1.6) * rng.uniform(0.9, 1.1, 2)
    circle = centre + radii * radius[:, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _marked(drawn, [circle], rng.uniform(5, 15), rng)


def _glare(ink: Ink, rng: np.random.Generator) -> bytes:
    """Photograph a digit under a spot of light that bleaches paper and ink."""
    drawn = np.pad(magnified(ink, MARKED), MARKED_MARGIN // 2)
    side = len(drawn)
    y, x = np.mgrid[:side, :side] / side
    centre_y, centre_x = rng.uniform(0.2, 0.8, 2)
    spread = rng.uniform(0.08, 0.16)
    spot = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / 2 / spread**2)
    paper = rng.uniform(0.7, 0.85)
    levels = paper - rng.uniform(0.4, 0.6) * drawn
    levels += (1 - levels) * rng.uniform(0.5, 0.9) * spot
    return encoded(levels + rng.normal(0, 0.01, levels.shape), "JPEG", quality=85)


def placed_anywhere(
    ink: Ink, size: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Place square ink anywhere in (h, w) pixels."""
    y, x = (rng.integers(free - len(ink) + 1) for free in size)
    levels = np.zeros(size, np.float32)
    levels[y : y + len(ink), x : x + len(ink)] = ink
    return levels


def _letterbox(ink: Ink, rng: np.random.Generator) -> bytes:
    """Photograph a digit on paper; place bars at two sides, as a screen does."""
    drawn = magnified(ink, rng.uniform(8, 16))
    side = int(len(drawn) * rng.uniform(1.2, 2.2))
    size = (side, int(side * rng.uniform(1.2, 1.8)))
    levels = placed_anywhere(drawn, size, rng)
    levels = rng.uniform(0.55, 0.9) * (1 - rng.uniform(0.6, 0.9) * levels)
    levels += 0.1 * ramp(size[1], rng)[:side] + rng.normal(0, 0.01, size)
    bars = (np.array(size)[:, np.newaxis] * rng.uniform(0.1, 0.5, (2, 2))).astype(int)
    bars[rng.integers(2)] = 0
    level = float(rng.choice([0, 0, 0, 1, rng.uniform(0.1, 0.4)]))
    return encoded(np.pad(levels, bars, constant_values=level), "JPEG", quality=85)


DRAWN: dict[str, Drawing] = {
    "photo of a thin pen": photographed_line,
    "pencil on squares": pencil_on_squares,
    "large hairline": _large((0.3, 1)),
    "large and faint": _large((0.08, 0.2)),
    "dark strip": dark_strip,
    "fat brush": fat_brush,
}
SCENES: dict[str, Corruption] = {
    "32 x 32 camera crop": _camera_crop,
    "plate in a page": _plate,
    "screenshot": _screenshot,
    "matplotlib figure": _figure,
    "underlined": _underlined,
    "circled": _circled,
    "glare": _glare,
    "letterbox": _letterbox,
}
