"""Ink turned into a mask of strokes."""

import numpy as np
import pytest

from service.reading.background import THRESHOLD, Ink, separate_ink
from service.reading.binarise import binarise

SIDE = 120


def noisy(plane: np.ndarray, sigma: float) -> Ink:
    noise = np.random.default_rng(0).normal(0, sigma, plane.shape)
    return Ink((plane + noise).astype(np.float32), THRESHOLD)


def test_a_line_that_fades_into_the_noise_stays_in_one_piece():
    plane = np.zeros((SIDE, SIDE))
    plane[20:100, 59:62] = np.linspace(0.8, 0.2, 80)[:, np.newaxis]

    mask = binarise(noisy(plane, 0.07)).mask

    assert mask[20:98, 60].all()
    mask[:, 56:65] = False
    assert mask.sum() <= 4


def test_a_speck_much_stronger_than_the_ink_does_not_hide_it():
    plane = np.zeros((SIDE, SIDE), np.float32)
    plane[20:100, 59:62] = 0.1
    plane[10:12, 10:12] = 1

    assert binarise(Ink(plane, THRESHOLD)).mask[20:100, 59:62].all()


def test_ink_of_fewer_pixels_than_a_speck_is_found():
    plane = np.zeros((SIDE, SIDE), np.float32)
    plane[50:59, 60] = 1

    assert (binarise(Ink(plane, THRESHOLD)).mask == (plane > 0)).all()


def test_salt_noise_is_removed_from_a_small_picture():
    plane = np.zeros((32, 32), np.float32)
    plane[8:24, 14:17] = 1
    salted = plane.copy()
    salted[2::6, 3::7] = 1

    mask = binarise(Ink(salted, THRESHOLD)).mask

    assert (mask == (plane > 0)).mean() > 0.99


@pytest.mark.parametrize("is_light", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_large_hairline_hardly_stronger_than_the_noise_is_found_whole(seed, is_light):
    y, x = np.mgrid[:240, :240]
    on_line = np.abs(np.hypot(y - 120, x - 120) - 105) < 0.55  # a 0 that fills the picture
    noise = np.random.default_rng(seed).normal(0, 0.018, on_line.shape)
    paper = 0.2 + 0.1 * x / 240 if is_light else 0.75 - 0.15 * x / 240
    levels = paper + np.where(on_line, 0.08 if is_light else -0.08, 0) + noise

    mask = binarise(separate_ink(levels.astype(np.float32))).mask

    assert mask[on_line].mean() > 0.95
    assert (mask & ~on_line).mean() < 0.07
