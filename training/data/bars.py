"""Upright bars, the plainest 1s."""

import numpy as np
from PIL import Image, ImageDraw

from service.features import MAX_GREY, Images
from service.reading.mnist_format import to_mnist_format
from training.data.synthetic import ANGLE_AND_SHEAR, CANVAS, HEIGHT

BAR_WIDTH = (0.06, 0.35)  # of the height, log-uniform
TURNED = 0.5  # share of the bars that are not exactly upright


def draw_bar(rng: np.random.Generator) -> Images:
    """Draw a bar that is exactly upright, or nearly so, with straight or round ends."""
    height = HEIGHT * CANVAS
    width = height * np.exp(rng.uniform(*np.log(BAR_WIDTH)))
    x, y = (CANVAS - width) / 2, (CANVAS - height) / 2
    picture = Image.new("L", (CANVAS, CANVAS))
    box = (x, y, x + width, y + height)
    ImageDraw.Draw(picture).rounded_rectangle(box, rng.uniform(0, width / 2), MAX_GREY)
    if rng.random() < TURNED:
        degrees = rng.normal(0, np.degrees(ANGLE_AND_SHEAR[0]) / 2)
        picture = picture.rotate(degrees, Image.Resampling.BILINEAR)
    ink = np.asarray(picture.crop(picture.getbbox()), np.float32) / np.float32(MAX_GREY)
    return to_mnist_format(ink, ink > 0.5)
