"""Groups of digits, and of parts of them, that are not one digit."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from service.features import MAX_GREY, Images
from service.reading.mnist_format import BOX
from training.data.dataset import Digits

SIZE = 120, 72  # pixels: width and height of a drawing
JITTER = 3  # pixels: how far a digit lies above or below the middle, at most
SIZES, GAPS = (0.85, 1.15), (-0.12, 0.5)  # of digits in a row; the gaps between them, of a box
# a digit beside a piece of another: the piece's width, and the gap, of a box; the least
# height of the piece, of the digit's
PIECE, PIECE_GAP, MIN_PIECE = (0.15, 0.5), (-0.1, 0.2), 0.5
# a lesser digit beside another, such as an exponent, or above or below it: its size; how far
# its middle lies from the other's, of a box; the share of those above or below, their gap, and
# that of those on the right; what its levels are multiplied by, as both are written by one pen
LESSER, RAISED, STACKED, STACK_GAP, AFTER, STRONGER = (0.4, 0.7), 0.7, 0.3, (-0.05, 0.3), 0.8, 1.6


def draw_group(rng: np.random.Generator, digits: Digits) -> Image.Image | None:
    """Draw a digit and another, or a part of one; return None if it may be one digit."""
    return DRAWINGS[int(rng.choice(len(DRAWINGS), p=SHARES))](rng, digits)


def cropped(image: Images) -> Images:
    """Return the part of an image (28, 28) that has ink: (h, w)."""
    picture = Image.fromarray(image)
    return np.asarray(picture.crop(picture.getbbox()))


def _several(rng: np.random.Generator, digits: Digits) -> Image.Image:
    """Draw two or three digits side by side, some of which touch."""
    row, x = Image.new("L", SIZE), 0
    for i in rng.integers(len(digits), size=int(rng.choice((2, 2, 2, 3)))):
        digit = _resized(digits.images[i], rng.uniform(*SIZES))
        _paste(row, digit, x, int(rng.integers(-JITTER, JITTER + 1)))
        x += max(2, digit.width + round(BOX * rng.uniform(*GAPS)))
    return row


def _beside_piece(rng: np.random.Generator, digits: Digits) -> Image.Image | None:
    """Draw a digit beside a piece that was cut off its neighbour."""
    i, j = rng.integers(len(digits), size=2)
    digit, other = cropped(digits.images[i]), cropped(digits.images[j])
    width = max(2, int(rng.uniform(*PIECE) * BOX))
    gap = round(rng.uniform(*PIECE_GAP) * BOX)
    is_after = rng.random() < 0.5
    piece = cropped(other[:, :width] if is_after else other[:, -width:])
    if len(piece) < MIN_PIECE * len(digit):
        return None  # a speck beside a digit
    row, x = Image.new("L", SIZE), 40
    for part in map(Image.fromarray, (digit, piece) if is_after else (piece, digit)):
        _paste(row, part, x, int(rng.integers(-JITTER, JITTER + 1)))
        x += max(1, part.width + gap)
    return row


def _beside_lesser(rng: np.random.Generator, digits: Digits) -> Image.Image | None:
    """Draw a digit with a lesser one beside, above or below it."""
    i, j = rng.integers(len(digits), size=2)
    if digits.labels[j] == 1:
        return None  # a short stroke may be a part of the digit
    digit, lesser = _resized(digits.images[i]), _resized(digits.images[j], rng.uniform(*LESSER))
    lesser = lesser.point(lambda level: min(round(STRONGER * level), MAX_GREY))
    row, x = Image.new("L", SIZE), 40
    _paste(row, digit, x, 0)
    if rng.random() < STACKED:
        gap = rng.uniform(*STACK_GAP) * BOX
        y = round((digit.height + lesser.height) / 2 + gap) * int(rng.choice((-1, 1)))
        _paste(row, lesser, x + int(rng.integers(digit.width + 1)) - lesser.width // 2, y)
    else:
        gap = round(rng.uniform(*GAPS) * BOX)
        x += digit.width + gap if rng.random() < AFTER else -lesser.width - gap
        _paste(row, lesser, x, round(rng.uniform(-RAISED, RAISED) * BOX))
    return row


def _resized(image: Images, scale: float = 1.0) -> Image.Image:
    digit = Image.fromarray(cropped(image))
    width, height = (max(2, round(scale * side)) for side in digit.size)
    return digit.resize((width, height))


def _paste(row: Image.Image, part: Image.Image, x: int, y: int) -> None:
    """Paste a part `y` pixels below the middle of a row."""
    row.paste(part, (x, row.height // 2 - part.height // 2 + y), part)


DRAWINGS: tuple[Callable[[np.random.Generator, Digits], Image.Image | None], ...] = (
    *(_several, _beside_piece, _beside_lesser),
)
SHARES = (0.38, 0.25, 0.37)
