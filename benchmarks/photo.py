"""A drawn photo for docs/reading-pictures.md: a digit on ruled paper in a shadow.

python -m benchmarks.photo    (writes docs/reading/photo.jpg)
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PHOTO = Path(__file__).parent.parent / "docs" / "reading" / "photo.jpg"
SIZE = (240, 220)  # pixels: width and height
PAPER, LINE, INK = (226, 222, 208), (70, 84, 130), (34, 40, 96)
LINE_EVERY = 34  # pixels
STROKES = [  # of a 5, as points in pixels
    [(146, 62), (104, 64), (100, 104)],
    [(100, 104), (128, 96), (148, 112), (146, 142), (122, 160), (96, 152)],
]
PEN = 7  # pixels
SHADOW = 0.55  # of the light that is left in the shadow
NOISE = 2.0  # grey levels: the standard deviation
SEED = 5


def draw() -> None:
    """Draw the photo, the same bytes every time."""
    picture = Image.new("RGB", SIZE, PAPER)
    pencil = ImageDraw.Draw(picture)
    for y in range(LINE_EVERY // 2, SIZE[1], LINE_EVERY):
        pencil.line([(0, y), (SIZE[0], y + 4)], LINE, width=3)
    for stroke in STROKES:
        pencil.line(stroke, INK, width=PEN, joint="curve")
    levels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8)), float)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    shadow = 1 / (1 + np.exp((x + 0.5 * y - 190) / 4))
    light = (1 - (1 - SHADOW) * shadow) * (0.8 + 0.2 * x / SIZE[0])
    noise = np.random.default_rng(SEED).normal(0, NOISE, levels.shape[:2])
    photo = np.clip(levels * light[..., np.newaxis] + noise[..., np.newaxis], 0, 255)
    PHOTO.parent.mkdir(exist_ok=True)
    Image.fromarray(photo.astype(np.uint8)).save(PHOTO, quality=80)


if __name__ == "__main__":
    draw()
