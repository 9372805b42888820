"""Strokes that are read as a 1, but may be a slash or a bracket."""

import numpy as np
import numpy.typing as npt

# of the height of a stroke: the least that a bracket is bent by; the least that a slash
# leans to the right, and one that is taller than so many times its row; the least and the
# most that it is bent by, to the left at its middle
BRACKET_BEND, SLASH_LEAN, TALL_LEAN, TALL, SLASH_BEND = 0.08, 0.2, 0.1, 1.04, (-0.03, 0.06)
MIN_ROW = 0.2  # of the fullest row: one with less ink is an end of the stroke
MIN_ROWS = 3  # a parabola has three coefficients


def may_be_sign(image: npt.NDArray[np.uint8], height: float, is_between: bool) -> bool:
    """Return whether the stroke in an image (28, 28) may be a bracket or a slash.

    height: of its row's height; is_between: whether it has digits on both sides, as a slash.
    The centres of its rows are fitted by a parabola.
    """
    ink = image.astype(np.float32)
    mass = ink.sum(axis=1)
    rows = np.flatnonzero(mass > MIN_ROW * mass.max())
    if len(rows) < MIN_ROWS:
        return False
    x = (ink[rows] @ np.arange(ink.shape[1])) / mass[rows] / len(rows)
    bend, slope, _ = np.polyfit(np.linspace(-1, 1, len(rows)), x, 2)
    is_leaning = -2 * slope > (TALL_LEAN if height > TALL else SLASH_LEAN)
    is_slash = is_between and is_leaning and SLASH_BEND[0] < bend < SLASH_BEND[1]
    return bool(abs(bend) > BRACKET_BEND or is_slash)
