"""Synthetic digits, drawn from strokes: training data without any file."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from service.features import IMAGE_SIZE, MAX_GREY
from service.reading.mnist_format import to_mnist_format
from training.data.dataset import DataSet, Digits

N_TRAIN, N_TEST = 3_000, 1_000
# The data set does not depend on the seed of a run. The digits that are added to
# another data set have their own seed, so that none of them is a validation row.
SET_SEED, ADDED_SEED = 21, 20
CANVAS = 112  # pixels, 4 times the side of an image: digits are drawn large, then reduced
ANGLE_AND_SHEAR = (0.1, 0.2)  # standard deviations of the rotation (radians), the shear
HEIGHT = 0.55  # of the canvas
WIDTH = (0.45, 0.95)  # of the height, uniform
POINT_NOISE = 0.03  # standard deviation, of the bounding box
END_NOISE = 0.06  # standard deviation of what a stroke overshoots or lacks at its ends
CURVE_SEGMENTS = 8  # straight lines between two points of a curved stroke
ANGULAR = 0.15  # share of the curves that are drawn as straight lines
PEN = (0.02, 0.115)  # width as a share of the canvas, log-uniform
BRUSH = (0.05, 0.17)  # the same of straight strokes
SQUARE, CHISEL = 0.2, 0.15  # shares of the pens that are not round
CHISEL_ASPECT = 0.3  # thickness of a chisel, of its width
ROUND_CORNERS = 12  # of the polygon that stands for a round pen
STEP = 0.2  # between two prints of a pen, of its width
# Of the rows that are added to another data set, the share of digits on inverted tiles
# whose labels are random: where no digit is found, no answer should be sure.
TILED = 0.3
TILE_WIDTH, TILE_HEIGHT = (10, 24), (19, 27)  # pixels

# American and European shapes of each digit: strokes separated by "/", each a list of
# points x,y in percent of the digit's bounding box, y pointing down.
SHAPES = """
0 50,0 10,25 10,75 50,100 90,75 90,25 50,0
0 60,0 25,20 20,80 50,100 80,70 80,20 50,5
1 50,0 50,50 50,100
1 30,25 55,0 / 55,0 55,50 55,100
1 10,55 55,0 / 55,0 55,50 55,100
1 0,75 30,45 60,0 / 60,0 60,50 58,100
1 20,30 55,0 / 55,0 55,50 55,100 / 20,100 90,100
2 10,25 50,0 85,25 50,65 10,100 / 10,100 90,100
2 15,20 50,0 80,30 40,80 15,90 20,75 / 20,75 50,90 90,100
2 10,10 85,5 / 85,5 10,95 / 10,95 90,100
2 15,20 50,0 80,25 45,75 15,95 25,75 60,95 95,85
3 15,10 50,0 80,20 40,45 / 40,45 85,65 60,100 10,90
3 15,0 80,0 / 80,0 40,40 / 40,40 85,65 50,100 10,85
4 20,0 15,50 / 15,55 85,50 / 75,0 70,100
4 65,0 10,65 / 10,65 90,65 / 65,0 65,100
4 55,0 5,60 95,60 / 70,35 60,100
4 15,0 15,35 40,50 75,45 / 85,0 75,50 70,100
4 45,0 10,50 25,55 90,45 / 70,25 60,100
5 80,0 20,0 / 20,0 15,45 / 15,45 70,45 75,90 10,95
5 90,5 30,0 / 30,0 20,40 / 20,40 80,55 60,100 10,90
6 70,0 25,40 20,80 50,100 80,80 60,55 25,70
6 50,0 20,50 30,95 70,95 75,65 50,55 20,75
6 85,10 45,5 15,50 30,95 75,90 75,55 30,60
7 10,5 90,0 / 90,0 60,50 40,100
7 10,0 85,0 / 85,0 45,100 / 40,50 85,50
7 10,20 12,2 / 12,2 90,5 / 90,5 55,50 40,100 / 30,50 80,45
8 50,0 20,20 50,45 85,75 50,100 / 50,100 15,75 50,45 80,20 50,0
8 50,45 25,20 50,0 75,20 50,45 / 50,45 15,75 50,100 85,75 50,45
9 80,25 50,0 20,25 50,50 80,25 / 80,20 75,100
9 75,10 35,5 20,40 60,45 80,10 / 80,10 80,70 40,100
9 80,20 50,0 20,25 50,50 80,25 / 80,25 85,70 50,100 15,90
9 75,20 45,0 20,20 40,45 75,35 / 80,10 85,60 60,95 15,95
""".strip().splitlines()
# Shapes that MNIST lacks. A range a:b is uniform. Strokes of a shape marked by "|" are
# always straight, as those of a block brush.
RARE_SHAPES = """
0 75:95,5:20 50,0 10,25 10,75 50,100 90,75 85:95,25 45:60,0:12 20:35,5:25
0| 0,0 0,100 100,100 100,0 0,0
1| 50,0 50,100
1| 5:30,18:32 5:30,0:12 50,0 50,100
1 26:44,13:30 60,0 / 60,0 60,50 60,100
1 8:32,21:42 60,0 / 60,0 60,50 60,100
1 -15:15,30:54 60,0 / 60,0 60,50 60,100
1 20:45,12:35 60,0 / 60,0 58,50 50:60,100
1 0:30,22:48 60,0 / 60,0 58,50 50:60,100
1 10:30,25:45 45,22 62,0 / 62,0 60,50 58,100
1 10:30,20:45 52,2 58,10 58,100
1 0:15,55:75 30,45 60,0 / 60,0 60,50 58,100
1 20,20:35 55,0 / 55,0 55,50 55,100 / 20,100 90,100
2 10,5:15 85,5 / 85,5 10,95 / 10,95 90,100
2| 0,0 100,0 100,50 0,50 0,100 100,100
3 15:30,20:35 18,8 50,0 85,22 50:65,46 / 50:65,46 92,72 50,100 12,90 15:30,65:78
3 12,12 50,0 82,20 58,44 35,50 45,40 60,48 88,75 50,100 8,90
3| 0,0 100,0 100,100 0,100 / 20:50,50 100,50
4 55:70,0:10 15:35,25:45 / 15:35,35:45 95:105,32:45 / 58:72,0 60:70,100
4 60:70,100 60:75,0 / 60:75,0 5:15,60:72 / 5:15,60:72 95,60:70
4| 0,0 0,50 100,50 / 100,0 100,100
5 85,0 20,0 / 20,0 15,42 / 15,42 65,35 95,65 55,100 12,90 10:28,65:78
5 90,0 12,0 / 12,0 8,42 / 8,42 30,36 65,38 95,68 60,100 15,92 0:10,62:80
5 85,5 35,0 15,25 50,45 85,70 50,100 10,90
5 15:25,5:12 18,42 / 18,42 65,38 90,65 55,100 8,90 / 25:35,0:5 90,0
5| 100,0 0,0 0,50 100,50 100,100 0,100
6 45:55,12 55,0 75:85,0 70:80,12 45:55,15 20,50 12,75 50,100 88,78 60,55 20,70
6 60:85,0:8 30,18 8,55 20,92 60,100 92,75 65,52 32:40,62 35:45,80 55:62,80
6 50:75,0 38:46,40 28:40,80:90 50,100 60:72,82:90 52,62:76 32:42,80:88
6 46:56,0 40:46,50 32:42,85:92 50,100 58:70,85:90 52,68:80 38:42,80:90
6| 50:90,0 0,55:65 10,100 90,95 90,58 5,62
6| 100,0 0,0 0,100 100,100 100,50 0,50
7 10,0:12 90,0 / 90,0 60,50 40,100
7 10,0:8 85,0 / 85,0 45,100 / 40,50 85,50
7 4:12,14:26 12,3:8 30,0:4 55,7:14 75,7:14 95,0:3 / 95,0:3 55:65,50 35:45,100
7 4:12,14:26 12,3:8 30,0:4 55,7:14 95,0 / 95,0 60,50 40,100 / 25:35,48:58 80:90,44:54
7 5:15,14:22 20,2 55,8 92,0 65,50 40,100
7| 0,0 100,0 100,100
8 50,0 22:40,9:13 50,18:26 60:78,9:13 50,0 / 50,18:26 10,38 10,80 50,100 90,80 90,38 50,18:26
8 50,0 25:40,9:15 50,20:30 92,50 85,85 50,100 15,85 8,50 50,20:30 60:75,9:15 50,0
8 50,0 28:42,7:14 50,14:28 58:72,7:14 50,0 / 50,14:28 6,40 12,84 50,100 90,82 94,40 50,14:28
8 54,0 30:42,10:16 60,20:30 94,60 80,92 45,100 10,85 10,55 44,20:30 66:76,9:15 54,0
8 50,0 26:42,6:16 50,16:38 58:74,6:16 50,0 / 50,16:38 5:30,53 20,90 50,100 80,90 70:95,53 50,16:38
8 50,0 26:42,6:16 50,16:38 70:95,50:65 50,100 5:30,50:65 50,16:38 58:74,6:16 50,0
8 54:66,2:8 44:56,0 30:42,8:16 50,20:36 70:95,45:65 50:60,100 10:35,70:85 50,24:40 62:76,8:18
8 50,0 28:42,8:16 50,18:34 58:72,8:16 50,0 / 5:30,60 50,18:34 70:95,60 50,100 5:30,60
8 5:30,35:42 50,0 70:95,35:42 50,64:80 5:30,35:42 / 50,64:80 28:42,84:92 50,100 58:72,84:92 50,64:80
8 50,62:80 5:30,22:40 50,0 70:95,22:40 50,62:80 / 50,62:80 26:42,82:92 50,100 58:74,82:92 50,62:80
8 50,62:80 5:30,22:40 50,0 70:95,22:40 50,62:80 58:74,82:92 50,100 26:42,82:92 50,62:80
8 80:90,12 50,0 20,20 50,45 85,72 50,100 12,75 50,47 75:88,15:25
8| 0,0 0,100 100,100 100,0 0,0 / 0,50 100,50
9 80,20 50,0 18,20 45,48 80,22 / 82,20 92,65 65,100 25,98 8:20,75:88
9 80,12 50,0 30,11 50,18:28 80,10 / 80,8 78,55 60:85,100
9 80,12 50,0 20:30,12 50,24 80,10 / 80,10 78,55 50:80,100
9 75,12 55,0 38,12 55,24 75,10 / 75,10 30:60,100
9 80,15 50,0 18,18 45,44 80,18 / 80,15 84,60 60,100 20,95 10:20,70:80 25:40,64:72
9 82,12 52,0 20,20 48,46 82,14 80,75 45,100 14,84 22:40,68:76
9 62:72,10 50,0 24:38,10:18 50,22:38 62:68,10:20 / 62:68,6:14 60,50 50:66,100
9 62:72,10 50,0 24:38,10:18 50,22:38 62:68,10:20 60,50 20:60,100
9| 100,50 0,50 0,0 100,0 100,100 0:40,100
9| 100,50 0,50 0,0 100,0 / 75:100,0 75:100,100
""".strip().splitlines()

Points = npt.NDArray[np.float64]


class Shape(NamedTuple):
    """Strokes (n, 2, 2) of points (x, y) from their lower to their upper limits."""

    strokes: Sequence[Points]
    is_straight: bool


def draw_digits(n_train: int = N_TRAIN, n_test: int = N_TEST) -> DataSet:
    """Draw a data set of synthetic digits, always the same, in common shapes."""
    rng = np.random.default_rng(SET_SEED)
    train, test = (_draw(_balanced(n, rng), rng) for n in (n_train, n_test))
    return DataSet("synthetic", train, test)


def draw_rare_digits(n: int) -> tuple[Digits, Digits]:
    """Draw digits in rare shapes, and on inverted tiles, to add to another data set.

    The n digits are always the same. Those of the second part have random labels.
    """
    rng = np.random.default_rng(ADDED_SEED)
    n_tiled = round(TILED * n)
    # a digit is as frequent as its shapes are many: those are the ones that MNIST lacks
    digits = _draw(rng.choice(RARE_SHAPES, n - n_tiled).tolist(), rng)
    y, x = np.indices(IMAGE_SIZE) - (np.array(IMAGE_SIZE).reshape(2, 1, 1) - 1) / 2
    tiles = MAX_GREY - digits.images[:n_tiled]
    for tile in tiles:
        width, height = rng.uniform(*TILE_WIDTH), rng.uniform(*TILE_HEIGHT)
        tile *= (abs(2 * x) < width) & (abs(2 * y) < height)
    return digits, Digits(tiles, rng.integers(10, size=n_tiled, dtype=np.uint8))


def _balanced(n: int, rng: np.random.Generator) -> list[str]:
    """Choose n common shapes, equally many of each digit, in random order."""
    of_digit = [[shape for shape in SHAPES if shape[0] == str(k)] for k in range(10)]
    return [str(rng.choice(of_digit[k])) for k in rng.permutation(np.arange(n) % 10)]


def parsed(shape: str) -> Shape:
    """Parse a line of SHAPES."""
    marks, *points = shape.split(maxsplit=1)
    strokes = [
        np.array([[_limits(n) for n in point.split(",")] for point in stroke.split()]) / 100
        for stroke in points[0].split("/")
    ]
    return Shape(strokes, marks.endswith("|"))


def _limits(number: str) -> tuple[float, float]:
    low, _, high = number.partition(":")
    return float(low), float(high or low)


def _draw(lines: Sequence[str], rng: np.random.Generator) -> Digits:
    """Draw a digit of every line of SHAPES or RARE_SHAPES that is given."""
    shape_of = cache(parsed)
    images = np.stack([_digit(shape_of(line), rng) for line in lines])
    labels = np.array([int(line[0]) for line in lines], np.uint8)
    return Digits(images, labels)


def _digit(shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a digit (28, 28) with random slant, proportions, pen and noise."""
    angle, shear = rng.normal(0, ANGLE_AND_SHEAR)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    scale = np.array([[rng.uniform(*WIDTH), -shear], [0, 1]]) * (HEIGHT * CANVAS)
    to_canvas = rotation @ scale
    width = CANVAS * np.exp(rng.uniform(*np.log(BRUSH if shape.is_straight else PEN)))
    pen = pen_tip(width, rng)
    is_straight = shape.is_straight or rng.random() < ANGULAR
    picture = Image.new("L", (CANVAS, CANVAS))
    canvas = ImageDraw.Draw(picture)
    for limits in shape.strokes:
        points = rng.uniform(limits[..., 0], limits[..., 1])
        points += rng.normal(0, POINT_NOISE, points.shape)
        points[[0, -1]] += (points[[0, -1]] - points[[1, -2]]) * rng.normal(0, END_NOISE, (2, 1))
        line = points if is_straight else curve(points)
        for point in dense((line - 0.5) @ to_canvas.T + CANVAS / 2, STEP * width):
            canvas.polygon((pen + point).ravel().tolist(), fill=MAX_GREY)
    digit = np.asarray(picture.crop(picture.getbbox()), np.float32) / np.float32(MAX_GREY)
    return to_mnist_format(digit, digit > 0.5)


def pen_tip(width: float, rng: np.random.Generator) -> Points:
    """Return the corners (n, 2) of a round, a square or a slanted chisel's tip."""
    kind = rng.random()
    if kind < SQUARE:
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2)
    aspect = CHISEL_ASPECT if kind < SQUARE + CHISEL else 1.0
    angle = np.linspace(0, 2 * np.pi, ROUND_CORNERS, endpoint=False)
    across, along = np.cos(angle), aspect * np.sin(angle)
    return np.stack([across + along, along - across], axis=1) * (width / np.sqrt(8))


def dense(line: Points, step: float) -> Iterator[Points]:
    """Yield points along a line (n, 2), a step apart or less."""
    yield line[0]
    for a, b in pairwise(line):
        n = int(np.hypot(*(b - a)) / step) + 1
        yield from a + (b - a) * (np.arange(1, n + 1) / n)[:, np.newaxis]


def curve(points: Points) -> Points:
    """Interpolate points (n, 2) by a cubic Hermite spline (Catmull-Rom)."""
    slopes = np.gradient(points, axis=0)
    t = np.linspace(0, 1, CURVE_SEGMENTS + 1)[:, np.newaxis]
    start = (1 + 2 * t) * (1 - t) ** 2
    segments = zip(points, points[1:], slopes, slopes[1:], strict=False)
    return np.concatenate(
        [
            start * a + t * (1 - t) ** 2 * da + (1 - start) * b - t**2 * (1 - t) * db
            for a, b, da, db in segments
        ]
    )
