"""Synthetic digits, drawn from strokes: training data without any file."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from service.features import IMAGE_SIZE, MAX_GREY, Images
from service.reading.mnist_format import to_mnist_format
from training.data.dataset import DataSet, Digits

N_TRAIN, N_TEST = 3_000, 1_000
# The data set does not depend on the seed of a run. The digits that are added to
# another data set have their own seed, so that none of them is a validation row.
SET_SEED, ADDED_SEED = 21, 20
CANVAS = 84  # pixels, 3 times the side of an image: digits are drawn large, then reduced
ANGLE_AND_SHEAR = (0.1, 0.2)  # standard deviations of the rotation (radians), the shear
HEIGHT = 0.55  # of the canvas
WIDTH = (0.5, 0.9)  # of the height, uniform
STROKE_WIDTH = (0.06, 0.13)  # of the canvas, uniform
POINT_NOISE = 0.03  # standard deviation, of the bounding box
CURVE_SEGMENTS = 8  # straight lines between two points of a stroke

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


def draw_digits(n_train: int = N_TRAIN, n_test: int = N_TEST, seed: int = SET_SEED) -> DataSet:
    """Draw a data set of synthetic digits, which depends on the seed only."""
    rng = np.random.default_rng(seed)
    train, test = (_draw(n, rng) for n in (n_train, n_test))
    return DataSet("synthetic", train, test)


def _draw(n: int, rng: np.random.Generator) -> Digits:
    labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
    images: Images = np.empty((n, *IMAGE_SIZE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:] = _digit(int(label), rng)
    return Digits(images, labels)


def _digit(label: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a digit (28, 28) with random shape, slant, stroke width and noise."""
    shapes = [shape[1:] for shape in SHAPES if shape.startswith(str(label))]
    strokes = str(rng.choice(shapes)).split("/")
    angle, shear = rng.normal(0, ANGLE_AND_SHEAR)
    width = rng.uniform(*WIDTH)
    pen = round(rng.uniform(*STROKE_WIDTH) * CANVAS)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    to_canvas = rotation @ np.array([[width, -shear], [0, 1]]) * (HEIGHT * CANVAS)
    picture = Image.new("L", (CANVAS, CANVAS))
    canvas = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = np.array([point.split(",") for point in stroke.split()], float) / 100
        points += rng.normal(0, POINT_NOISE, points.shape)
        line = (_curve(points) - 0.5) @ to_canvas.T + CANVAS / 2
        canvas.line(list(map(tuple, line)), fill=MAX_GREY, width=pen, joint="curve")
        for end in line[[0, -1]]:
            canvas.circle(tuple(end), pen / 2, fill=MAX_GREY)
    digit = np.asarray(picture.crop(picture.getbbox()), np.float32) / np.float32(MAX_GREY)
    return to_mnist_format(digit, digit > 0.5)


def _curve(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
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
