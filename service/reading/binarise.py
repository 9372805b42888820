"""Binarisation: which pixels are ink, by the noise and the level of the ink."""

from typing import NamedTuple

import numpy as np

from service.reading.background import MIN_CONTRAST, SPECK, Ink
from service.reading.errors import NoDigit
from service.reading.morphology import Grey, Mask, count_isolated, despeckle, propagation, smooth
from service.reading.order_statistics import from_top, median, sampled

# standard deviations of the noise: the least of the strongest ink, of the threshold, and
# of the threshold for pixels that continue a stroke
MIN_SIGNAL, NOISE_THRESHOLD, WEAK_THRESHOLD = 3.0, 3.5, 2.0
MAX_THRESHOLD = 0.5  # of the ink's level: the largest threshold
# The ink's level is the median of what exceeds this part of the strongest ink, which
# is at this rank from the top, or lower, in a picture of many pixels. Specks cover less
# than MAX_SPECK of a small picture.
STRONG, STRONGEST_RANK, PIXELS_PER_RANK, MAX_SPECK = 0.5, 3, 20_000, 1 / 8
MAX_INK = 0.75  # of the picture
# pixels: in a picture whose longer side is this, more isolated ones are salt noise
SALT_SIDE, MAX_ISOLATED = 64, 5
MAX_SALTED_NOISE = 1 / 6  # of the ink's level: with more, isolated pixels are no salt
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

    Where noise raises the threshold, weaker pixels continue a stroke (hysteresis:
    Canny, "A computational approach to edge detection", 1986).
    Raises InvalidImage where nothing stands out, or nearly everything does.
    """
    plane = ink.plane
    noise = estimate_noise(plane)
    seen = smooth(plane) if noise > 0 else plane
    level = _ink_level(seen, noise)
    weak, threshold = (
        min(max(ink.threshold * level, deviations * noise), MAX_THRESHOLD * level)
        for deviations in (WEAK_THRESHOLD, NOISE_THRESHOLD)
    )
    mask = seen > threshold
    may_have_salt = max(mask.shape) <= SALT_SIDE and noise <= MAX_SALTED_NOISE * level
    # counted before smoothing, which spreads grains and joins them
    if may_have_salt and count_isolated(plane > threshold) > MAX_ISOLATED:
        plane = despeckle(plane)
        mask = plane > threshold
    elif weak < threshold:
        mask = propagation(mask, seen > weak)
    if np.count_nonzero(mask) > MAX_INK * mask.size:
        raise NoDigit("nearly all is ink; leave some background around the digit")
    floor = (NOISY_FLOOR if noise else FLOOR) * threshold
    return Strokes(plane, mask, level, floor)


def estimate_noise(plane: Grey) -> float:
    """Estimate the standard deviation of the noise from second differences.

    Immerkær, "Fast noise variance estimation", 1996; with the median in place of the
    mean, so that strokes do not count.
    """
    p = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    p = p[:, :-2] - 2 * p[:, 1:-1] + p[:, 2:]
    deviation = median(np.abs(sampled(p))) if p.size else 0.0
    return deviation / (DIFFERENCE_NORM * MEDIAN_DEVIATION)


def _ink_level(seen: Grey, noise: float) -> float:
    """Return the level of strong ink; raise InvalidImage where there is none.

    If few pixels are much stronger than the rest of the ink, they are a speck.
    """
    rank = max(STRONGEST_RANK, seen.size // PIXELS_PER_RANK)
    beyond = rank + min(SPECK, int(MAX_SPECK * seen.size))
    common, strongest = from_top(seen, beyond, rank)
    least = max(MIN_CONTRAST, MIN_SIGNAL * noise)
    if least < common < STRONG * strongest:
        strongest = common
    if strongest < least:
        raise NoDigit("the picture is blank (no ink stands out from its noise)")
    return median(seen[seen > STRONG * strongest])
