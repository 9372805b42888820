"""Strokes that are read as a 1, but may be a slash or a bracket."""

import numpy as np
import numpy.typing as npt

# of the height of a stroke: the least that a bracket is bent by, the least that a slash
# leans to the right, and the most that it is bent by; of the fullest row, a row with less
# ink is its end
BRACKET_BEND, SLASH_LEAN, SLASH_BEND, MIN_ROW = 0.08, 0.2, 0.03, 0.2
MIN_ROWS = 3  # a parabola has three coefficients


def may_be_sign(image: npt.NDArray[np.uint8], is_between: bool) -> bool:
    """Return whether the stroke in an image (28, 28) may be a bracket or a slash.

    is_between: whether it has digits on both sides, as a slash. The centres of its rows
    are fitted by a parabola.
    """
    ink = image.astype(np.float32)
    mass = ink.sum(axis=1)
    rows = np.flatnonzero(mass > MIN_ROW * mass.max())
    if len(rows) < MIN_ROWS:
        return False
    x = (ink[rows] @ np.arange(ink.shape[1])) / mass[rows] / len(rows)
    bend, slope, _ = np.polyfit(np.linspace(-1, 1, len(rows)), x, 2)
    is_slash = is_between and -2 * slope > SLASH_LEAN and abs(bend) < SLASH_BEND
    return bool(abs(bend) > BRACKET_BEND or is_slash)
