"""Augmented copies of digits."""

import numpy as np
import pytest
import torch

from training.design.augment import AUGMENTATIONS, Augmentation, augment


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmented_images_depend_on_the_generator_only(drawn):
    images = drawn.train.images[:20]

    first, again, other = (augment(images, AUGMENTATIONS[0], seeded(seed)) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("limits", AUGMENTATIONS)
def test_augmented_images_have_about_as_much_ink(limits, drawn):
    images = drawn.train.images[:200]

    copies = augment(images, limits, seeded(0))

    assert copies.shape == images.shape
    assert copies.dtype == np.uint8
    ratio = copies.astype(float).sum((1, 2)) / images.astype(float).sum((1, 2))
    assert 0.6 < np.median(ratio) < 1.6
    assert ratio.min() > 0.1


@pytest.mark.parametrize(
    ("strokes", "sign"), [((0, 1, 0, 0), 1), ((0, 0, 1, 0), -1), ((1, 0, 0, 0), 0)]
)
def test_strokes_become_thicker_thinner_or_stay_the_same(strokes, sign, drawn):
    images = drawn.train.images[:100]
    same = augment(images, Augmentation(0, 0, 0, (1, 0, 0, 0)), seeded(0))
    other = augment(images, Augmentation(0, 0, 0, strokes), seeded(0))

    change = other.astype(float).sum() - same.astype(float).sum()
    assert np.sign(change) == sign


def test_a_bend_moves_the_ink_and_keeps_about_as_much(drawn):
    images = drawn.train.images[:100]
    straight = augment(images, Augmentation(0, 0, 0, (1, 0, 0, 0)), seeded(0))
    bent = augment(images, Augmentation(0, 0, 0, (1, 0, 0, 0), bend=1), seeded(0))

    moved = np.abs(bent.astype(float) - straight).sum((1, 2)) / straight.sum((1, 2))
    assert moved.min() > 0.1
    ratio = bent.astype(float).sum((1, 2)) / straight.astype(float).sum((1, 2))
    assert 0.95 < np.median(ratio) < 1.05
    assert 0.6 < ratio.min() < ratio.max() < 1.6


def cluttered(images, clutter):
    limits = Augmentation(0, 0, 0, (1, 0, 0, 0), clutter=clutter)
    clean = augment(images, Augmentation(0, 0, 0, (1, 0, 0, 0)), seeded(0)).astype(float)
    return clean, augment(images, limits, seeded(0)).astype(float)


def test_lines_add_ink_and_leave_the_digit(drawn):
    clean, other = cluttered(drawn.train.images[:100], (1, 0, 0))

    assert (other >= clean).all()
    assert np.mean((other > clean).any((1, 2))) > 0.8


def test_outlines_are_dark_where_the_strokes_were(drawn):
    clean, other = cluttered(drawn.train.images[:100], (0, 1, 0))

    assert other[clean > 250].mean() < 60
    assert other.sum((1, 2)).min() > 0


def test_specks_lie_near_the_digit_and_fade_some_of_it(drawn):
    clean, other = cluttered(drawn.train.images[:100], (0, 0, 1))

    rows = np.flatnonzero((other > clean).any((0, 2)))
    ink = np.flatnonzero(clean.any((0, 2)))
    assert ink[0] - 3 <= rows[0]
    assert rows[-1] <= ink[-1] + 3
    assert (other < clean).any()
