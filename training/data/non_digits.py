"""Pictures of no digit, drawn to teach a model what is not one: letters, signs, scribbles."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from service.features import MAX_GREY, Images
from service.images import InvalidImage, read_levels
from service.reading.mnist_format import BOX, to_mnist_format
from service.reading.morphology import Mask, stroke_width
from training.data.bars import draw_bar
from training.data.dataset import Digits
from training.data.glyphs import Glyph, foreign, latin
from training.data.shapes import FIGURES, LETTERS, SIGNS
from training.data.synthetic import (
    ANGLE_AND_SHEAR,
    ANGULAR,
    CANVAS,
    END_NOISE,
    HEIGHT,
    POINT_NOISE,
    Points,
    curve,
    dense,
    parsed,
    pen_tip,
)

SEED = 22  # not that of a run: the pictures are always the same
FIELD, MOSAIC = 84, 6  # pixels: the sides of a field of noise or texture, and of its tiles
PEN = (0.03, 0.13)  # width as a share of the canvas, log-uniform
STEP = 0.35  # between two prints of a pen, of its width
WIDTH, WIDE = (0.5, 1.1), (0.8, 1.3)  # of the height, uniform: of letters and of figures
TURNED = 2.0  # radians, standard deviation: any angle
FILLED = 0.2  # share of the figures
INK, PLUMP = (0.02, 0.8), 0.4  # the ink of a box; the widest stroke, of its longer side

# characters of no alphabet: strokes begin on earlier ones, and many run at 45 degrees
N_STROKES = (0.15, 0.4, 0.3, 0.15)  # shares of characters of 1, 2, 3 and 4 strokes
ATTACHED, AT_END, AT_45, MIN_REACH = 0.65, 0.4, 0.5, 0.3
LINE, ARC, SPLINE = 0.4, 0.7, 0.93  # cumulative shares of the strokes; the others are loops
MAX_BENDS, ANGLES = 4, 0.3  # of a spline; share of the splines that are lines with corners
SCRIBBLE_POINTS = (6, 25)

NARROW = 0.45  # width over height: an upright stroke below it may be a 1
# parts of a digit that are no digit: top, bottom, left or right halves
HALVES = {0: "tb", 2: "tblr", 3: "lr", 4: "l", 5: "tl", 6: "r", 7: "l", 8: "l", 9: "l"}
HALF = (0.42, 0.55)  # of the digit's side
QUARTERED, IN_QUARTERS = (2, 3, 4, 5, 8), 0.2
TRIES = 100  # digits looked at for one with a label
# a digit beside a piece of another: the piece's width, and the gap, of a box; the least
# height of the piece, of the digit's
PIECE, PIECE_GAP, MIN_PIECE = (0.15, 0.5), (-0.1, 0.2), 0.5
BARS = 0.02  # share of the pictures that are upright bars, which are 1s
# digits that are none when turned by 90 or 180 degrees, or mirrored, and the shares of
# those turned by 90 degrees either way, by 180, and mirrored
TURN_SHARES = (0.35, 0.35, 0.15, 0.15)
BY_90, BY_180, MIRRORED = (2, 3, 4, 5, 6, 7, 9), (3, 4, 7), (3, 4, 6, 9)

Drawing = Callable[[np.random.Generator, Digits], Images | None]


def draw_non_digits(n: int, digits: Digits) -> Digits:
    """Draw n images of no digit, with the label 0, always the same for the same digits.

    The share BARS of them are upright bars instead, with the label 1, as these are left
    out of the others. digits: of which some pictures show parts, several, or turned ones.
    """
    rng = np.random.default_rng(SEED)
    images: list[Images] = []
    drawings, shares = list(KINDS), np.array(list(KINDS.values()))
    for i in rng.choice(len(drawings), n, p=shares / shares.sum()):
        image = drawings[i](rng, digits)
        while image is None:  # too little ink or too much, or no such digit: another kind
            image = drawings[int(rng.choice(len(drawings), p=shares / shares.sum()))](rng, digits)
        images.append(image)
    bars = rng.choice(n, round(BARS * n), replace=False)
    labels = np.zeros(n, np.uint8)
    for i in bars.tolist():
        images[i], labels[i] = draw_bar(rng), 1
    return Digits(np.stack(images), labels)


def _framed(picture: Image.Image) -> Images | None:
    """Frame ink as MNIST frames digits; return None for a blank or a solid picture."""
    box = picture.getbbox()
    if box is None:
        return None
    ink = np.asarray(picture.crop(box), np.float32) / np.float32(MAX_GREY)
    mask = ink > 0.5
    if not INK[0] < mask.mean() < INK[1] or stroke_width(mask) > PLUMP * max(mask.shape):
        return None
    return None if _is_upright_stroke(mask) else to_mnist_format(ink, mask)


def _is_upright_stroke(mask: Mask) -> bool:
    """Return whether each row of a narrow mask (h, w) is one run: a bar, a bracket, a 1."""
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    return bool(mask.shape[1] < NARROW * mask.shape[0] and (starts.sum(1) == 1).all())


def _drawn(
    strokes: Sequence[Points],
    rng: np.random.Generator,
    turn: float = ANGLE_AND_SHEAR[0],
    width: tuple[float, float] = WIDTH,
    is_filled: bool = False,
) -> Images | None:
    """Draw strokes (n, 2) in a unit box with random slant, proportions and pen."""
    angle, shear = rng.normal(0, (turn, ANGLE_AND_SHEAR[1]))
    cos, sin = np.cos(angle), np.sin(angle)
    scale = np.array([[rng.uniform(*width), -shear], [0, 1]]) * (HEIGHT * CANVAS)
    to_canvas = np.array([[cos, -sin], [sin, cos]]) @ scale
    pen_width = CANVAS * np.exp(rng.uniform(*np.log(PEN)))
    pen, is_angular = pen_tip(pen_width, rng), rng.random() < ANGULAR
    picture = Image.new("L", (CANVAS, CANVAS))
    canvas = ImageDraw.Draw(picture)
    for points in strokes:
        line = points if is_angular or len(points) < 3 else curve(points)
        line = (line - 0.5) @ to_canvas.T + CANVAS / 2
        if is_filled and len(line) > 2:
            canvas.polygon(line.ravel().tolist(), fill=MAX_GREY)
        for point in dense(line, STEP * pen_width):
            canvas.polygon((pen + point).ravel().tolist(), fill=MAX_GREY)
    return _framed(picture)


@cache
def _shapes(lines: Sequence[str]) -> dict[str, list[list[Points]]]:
    """Parse the shapes of each name; a straight one has a stroke for each of its lines."""
    shapes: dict[str, list[list[Points]]] = {}
    for line in lines:
        strokes, is_straight = parsed(line)
        if is_straight:
            strokes = [each[i : i + 2] for each in strokes for i in range(len(each) - 1)]
        shapes.setdefault(line.split()[0].rstrip("|"), []).append(list(strokes))
    return shapes


def _shape(lines: Sequence[str], rng: np.random.Generator) -> list[Points]:
    """Draw the strokes of a random shape with noise."""
    shapes = _shapes(tuple(lines))
    known = shapes[str(rng.choice(list(shapes)))]
    strokes = []
    for limits in known[int(rng.integers(len(known)))]:
        points = rng.uniform(limits[..., 0], limits[..., 1])
        points += rng.normal(0, POINT_NOISE, points.shape)
        points[[0, -1]] += (points[[0, -1]] - points[[1, -2]]) * rng.normal(0, END_NOISE, (2, 1))
        strokes.append(points)
    return strokes


def _letter(rng: np.random.Generator, digits: Digits) -> Images | None:
    return _drawn(_shape(LETTERS, rng), rng)


def _sign(rng: np.random.Generator, digits: Digits) -> Images | None:
    return _drawn(_shape(SIGNS, rng), rng, width=WIDE)


def _figure(rng: np.random.Generator, digits: Digits) -> Images | None:
    strokes = _shape(FIGURES, rng)
    if rng.random() > FILLED:
        return _drawn(strokes, rng, TURNED, WIDE)
    return _drawn([np.concatenate(strokes)], rng, TURNED, WIDE, is_filled=True)


def _character(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Draw strokes that form no known character, as those of a foreign alphabet."""
    strokes: list[Points] = []
    n = 1 + int(rng.choice(len(N_STROKES), p=N_STROKES))
    for _ in range(n):
        start = rng.uniform(0, 1, 2)
        if strokes and rng.random() < ATTACHED:
            earlier = strokes[int(rng.integers(len(strokes)))]
            i = int(rng.integers(len(earlier) - 1))
            share = rng.integers(2) if rng.random() < AT_END else rng.random()
            start = earlier[i] + (earlier[i + 1] - earlier[i]) * share
        # one line, arc, loop or angle alone may be a 1, a 0 or a 7
        kind = rng.uniform(ARC, SPLINE) if n == 1 else rng.random()
        strokes += _stroke(start, kind, 2 if n == 1 else 1, rng)
    return _drawn(strokes, rng)


def _stroke(start: Points, kind: float, bends: int, rng: np.random.Generator) -> list[Points]:
    """Draw a line, an arc, a loop, or a spline or lines of so many bends or more."""
    if kind > SPLINE:
        turn = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, 9)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        return [rng.uniform(0.2, 0.8, 2) + circle * rng.uniform(0.1, 0.35, 2)]
    points = [start, _end(start, rng)]
    if kind < LINE:
        return [np.array(points)]
    if kind < ARC:
        chord = points[1] - start
        bend = rng.normal(0, 0.3) * np.array([-chord[1], chord[0]])
        return [np.array([start, start + chord / 2 + bend, points[1]])]
    for _ in range(rng.integers(bends, MAX_BENDS + 1)):
        points.append(_end(points[-1], rng))
    if rng.random() < ANGLES:
        return [np.array(line) for line in pairwise(points)]
    return [np.array(points)]


def _end(start: Points, rng: np.random.Generator) -> Points:
    """Draw the end of a stroke, not near its start and often at a multiple of 45 degrees."""
    while True:
        chord = rng.uniform(0, 1, 2) - start
        length = np.hypot(*chord)
        if rng.random() < AT_45:
            angle = np.round(np.arctan2(chord[1], chord[0]) / (np.pi / 4)) * (np.pi / 4)
            chord = length * np.array([np.cos(angle), np.sin(angle)])
        end = start + chord
        if length > MIN_REACH and (abs(end - 0.5) < 0.6).all():
            return end


def _scribble(rng: np.random.Generator, digits: Digits) -> Images | None:
    n = int(rng.integers(*SCRIBBLE_POINTS))
    points = rng.uniform(0, 1, (n, 2))
    if rng.random() < 0.5:
        points = np.cumsum(points - 0.5, axis=0)
        points = (points - points.min(axis=0)) / np.ptp(points, axis=0).max()
    return _drawn([points], rng, TURNED, WIDE)


def _latin_glyph(rng: np.random.Generator, digits: Digits) -> Images | None:
    return _glyph(latin(), rng)


def _foreign_glyph(rng: np.random.Generator, digits: Digits) -> Images | None:
    return _glyph(foreign(), rng)


def _glyph(known: Sequence[Glyph], rng: np.random.Generator) -> Images | None:
    """Draw a character of a font, turned, slanted, and wider or narrower."""
    character, font = known[int(rng.integers(len(known)))]
    angle, shear = rng.normal(0, ANGLE_AND_SHEAR)
    aspect = np.exp(rng.uniform(-0.25, 0.25))
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1 / aspect, shear], [0, 1]])
    side = 2 * CANVAS
    picture = Image.new("L", (side, side))
    ImageDraw.Draw(picture).text((CANVAS, CANVAS), character, MAX_GREY, font, "mm")
    offset = CANVAS - back @ (CANVAS, CANVAS)
    matrix = np.column_stack([back, offset]).ravel().tolist()
    bilinear = Image.Resampling.BILINEAR
    return _framed(picture.transform((side, side), Image.Transform.AFFINE, matrix, bilinear))


def _one_of(
    digits: Digits, rng: np.random.Generator, labels: Sequence[int] = range(10)
) -> tuple[Images, int] | None:
    """Return a random digit with one of the labels: its image and label; None without one."""
    for i in rng.integers(len(digits), size=TRIES):
        if digits.labels[i] in labels:
            return digits.images[i], int(digits.labels[i])
    return None


def _cropped(image: Images) -> Images:
    picture = Image.fromarray(image)
    return np.asarray(picture.crop(picture.getbbox()))


def _part(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Draw a half or a quarter of a digit."""
    found = _one_of(digits, rng, tuple(HALVES))
    if found is None:
        return None
    digit, label = _cropped(found[0]), found[1]
    sides = HALVES[label][int(rng.integers(len(HALVES[label])))]
    if label in QUARTERED and rng.random() < IN_QUARTERS:
        sides = "tb"[int(rng.integers(2))] + "lr"[int(rng.integers(2))]
    height, width = (rng.uniform(*HALF) * np.array(digit.shape)).astype(int)
    for side in sides:
        digit = {"t": digit[:height], "b": digit[-height:]}.get(side, digit)
        digit = {"l": digit[:, :width], "r": digit[:, -width:]}.get(side, digit)
    return _framed(Image.fromarray(digit)) if min(digit.shape) > 2 else None


def _several(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Draw two or three digits side by side, some of which touch."""
    row = Image.new("L", (120, 48))
    x = 0
    for i in rng.integers(len(digits), size=int(rng.choice((2, 2, 2, 3)))):
        digit = Image.fromarray(_cropped(digits.images[i]))
        size = np.maximum(np.rint(np.array(digit.size) * rng.uniform(0.85, 1.15)), 2).astype(int)
        digit = digit.resize((int(size[0]), int(size[1])))
        row.paste(digit, (x, 24 - digit.height // 2 + int(rng.integers(-3, 4))), digit)
        x += max(2, digit.width + round(20 * rng.uniform(-0.12, 0.5)))
    return _framed(row)


def _beside_piece(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Draw a digit beside a piece that was cut off its neighbour."""
    i, j = rng.integers(len(digits), size=2)
    digit, other = _cropped(digits.images[i]), _cropped(digits.images[j])
    width = max(2, int(rng.uniform(*PIECE) * BOX))
    gap = round(rng.uniform(*PIECE_GAP) * BOX)
    is_after = rng.random() < 0.5
    piece = _cropped(other[:, :width] if is_after else other[:, -width:])
    if len(piece) < MIN_PIECE * len(digit):
        return None  # a speck beside a digit
    row, x = Image.new("L", (120, 48)), 40
    for part in map(Image.fromarray, (digit, piece) if is_after else (piece, digit)):
        row.paste(part, (x, 24 - part.height // 2 + int(rng.integers(-3, 4))), part)
        x += max(1, part.width + gap)
    return _framed(row)


def _turned(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Turn or mirror a digit so that it stops being one."""
    turns = ((BY_90, 1), (BY_90, 3), (BY_180, 2), (MIRRORED, 0))
    labels, quarters = turns[int(rng.choice(len(turns), p=TURN_SHARES))]
    found = _one_of(digits, rng, labels)
    if found is None:
        return None
    image = np.rot90(found[0], quarters) if quarters else found[0][:, ::-1]
    return _framed(Image.fromarray(np.ascontiguousarray(image)))


def _noise(side: int, scale: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw smooth noise (side, side) that changes over `scale` pixels."""
    n = max(2, int(side / scale))
    picture = Image.fromarray(rng.normal(size=(n, n)).astype(np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def _crop_of(field: npt.NDArray[Any], rng: np.random.Generator) -> Images | None:
    """Crop a piece of a field (h, w) and ink where it is high."""
    ink = field > np.quantile(field, rng.uniform(0.55, 0.9))
    y, x = rng.integers(0, 20, 2)
    side = int(rng.integers(30, 64))
    return _framed(Image.fromarray(ink[y : y + side, x : x + side]).convert("L"))


def _blobs(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Draw the patches or the contours of noise, as of clouds, folds and stains."""
    field = _noise(FIELD, np.exp(rng.uniform(*np.log((4, 30)))), rng)
    field = field + rng.integers(2) * 0.5 * _noise(FIELD, 5, rng)
    return _crop_of(-abs(field) if rng.random() < 0.4 else field, rng)


def _texture(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Draw stripes, a lattice or a mosaic, as of ruled paper, cloth and tiles."""
    y, x = np.indices((FIELD, FIELD))
    angle, wave = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(8, 30)
    along = np.sin(wave * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
    across = np.sin(wave * (y * np.cos(angle) - x * np.sin(angle)) + rng.uniform(0, 6))
    mosaic = np.kron(rng.random((FIELD // MOSAIC,) * 2), np.ones((MOSAIC, MOSAIC)))
    fields = (along, along + across, np.maximum(along, across), mosaic)
    return _crop_of(fields[int(rng.integers(4))] + 0.3 * _noise(FIELD, 20, rng), rng)


def _scene(rng: np.random.Generator, digits: Digits) -> Images | None:
    """Read a picture of random areas, lines and noise, as a crop of a photo."""
    side = int(rng.integers(40, 72))
    picture = Image.new("L", (side, side), int(rng.integers(MAX_GREY)))
    canvas = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 8)):
        points = rng.uniform(-0.2, 1.2, (int(rng.integers(2, 5)), 2)) * side
        grey = int(rng.integers(MAX_GREY))
        if len(points) > 2:
            canvas.polygon(points.ravel().tolist(), grey)
        elif rng.random() < 0.5:
            canvas.ellipse(np.sort(points, axis=0).ravel().tolist(), grey)
        else:
            canvas.line(points.ravel().tolist(), grey, int(rng.integers(1, 9)))
    levels = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2))), float)
    levels = levels + rng.uniform(0, 40) * _noise(side, rng.uniform(2, 12), rng)
    levels += rng.normal(0, rng.uniform(0, 12), levels.shape)
    try:
        return read_levels(np.clip(levels, 0, MAX_GREY).astype(np.uint8))
    except InvalidImage:
        return None


# the shares of the pictures
KINDS: dict[Drawing, float] = {
    _letter: 0.18,
    _latin_glyph: 0.06,
    _foreign_glyph: 0.22,
    _character: 0.22,
    _sign: 0.04,
    _figure: 0.04,
    _scribble: 0.03,
    _part: 0.04,
    _several: 0.07,
    _beside_piece: 0.05,
    _turned: 0.04,
    _blobs: 0.02,
    _texture: 0.01,
    _scene: 0.03,
}
