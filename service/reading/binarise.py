"""Binarisation: which pixels are ink, by the noise and the level of the ink."""

from typing import NamedTuple

import numpy as np

from service.reading.background import MIN_CONTRAST, Ink
from service.reading.errors import InvalidImage
from service.reading.morphology import (
    Grey,
    Mask,
    count_isolated,
    despeckle,
    smooth,
)

MIN_SIGNAL = 3.0  # standard deviations of the noise: the strongest ink rises above
NOISE_THRESHOLD = 3.5  # standard deviations of the noise: the least threshold
MAX_THRESHOLD = 0.5  # of the ink's level: the largest threshold
STRONG = 0.5  # of the strongest ink: the ink's level is the median of what is stronger
STRONGEST_RANK = 3  # the strongest ink is this one from the top, or, in a large
PIXELS_PER_RANK = 20_000  # picture, one lower for each so many pixels
MAX_INK = 0.75  # of the picture
SALT_SIDE = 64  # pixels: the longest side of a picture that is searched for salt
MAX_ISOLATED = 5  # pixels: more isolated ones are salt noise
# of the threshold: ink fainter than this is black in the image
FLOOR, NOISY_FLOOR = 0.1, 0.25
# A normal variable's median deviation is this part of its standard deviation; the norm
# of the mask of second differences is 6.
MEDIAN_DEVIATION, DIFFERENCE_NORM = 0.6745, 6


class Strokes(NamedTuple):
    """Ink that has been binarised."""

    plane: Grey  # (h, w): the ink, without salt noise
    mask: Mask  # (h, w): which pixels are ink
    level: float  # of strong ink
    floor: float  # the level up to which ink is black in the image


def binarise(ink: Ink) -> Strokes:
    """Choose the pixels of ink by a threshold over the background and its noise.

    Raises InvalidImage where nothing stands out, or nearly everything does.
    """
    plane = ink.plane
    noise = estimate_noise(plane)
    seen = smooth(plane) if noise > 0 else plane
    level = _ink_level(seen, noise)
    threshold = max(ink.threshold * level, NOISE_THRESHOLD * noise)
    threshold = min(threshold, MAX_THRESHOLD * level)
    mask = seen > threshold
    if mask.mean() > MAX_INK:
        raise InvalidImage(
            f"no digit found: {mask.mean():.0%} of the picture is ink; leave some "
            "background on every side of the digit"
        )
    if max(mask.shape) <= SALT_SIDE and count_isolated(mask) > MAX_ISOLATED:
        plane = despeckle(plane)
        mask = plane > threshold
    floor = (NOISY_FLOOR if noise else FLOOR) * threshold
    return Strokes(plane, mask, level, floor)


def estimate_noise(plane: Grey) -> float:
    """Estimate the standard deviation of the noise from second differences.

    Immerkær, "Fast noise variance estimation", 1996; with the median in place of the
    mean, so that strokes do not count.
    """
    p = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    p = p[:, :-2] - 2 * p[:, 1:-1] + p[:, 2:]
    if not p.size:
        return 0.0
    return float(np.median(np.abs(p))) / (DIFFERENCE_NORM * MEDIAN_DEVIATION)


def _ink_level(seen: Grey, noise: float) -> float:
    """Return the level of strong ink; raise InvalidImage where there is none."""
    rank = max(STRONGEST_RANK, seen.size // PIXELS_PER_RANK)
    strongest = float(np.partition(seen.ravel(), -rank)[-rank])
    if strongest < max(MIN_CONTRAST, MIN_SIGNAL * noise):
        raise InvalidImage(
            "no digit found: the picture is blank (no ink stands out from the "
            "background and its noise)"
        )
    return float(np.median(seen[seen > STRONG * strongest]))
