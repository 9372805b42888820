"""Operations on masks, compared with slow and simple ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.reading.morphology import (
    bounding_box,
    closing,
    count_isolated,
    despeckle,
    dilation,
    horizontal_runs,
    label_runs,
    largest_share,
    opening,
    padded,
    propagation,
    stroke_width,
)

masks = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def flood(mask: np.ndarray) -> np.ndarray:
    """Label 8-connected components the slow and obvious way; 0 is no component."""
    labels = np.zeros(mask.shape, int)
    for start in np.argwhere(mask):
        if labels[tuple(start)]:
            continue
        stack, label = [tuple(start)], labels.max() + 1
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not labels[y, x]:
                labels[y, x] = label
                stack += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return labels


@settings(max_examples=300, deadline=None)
@given(masks)
def test_components_are_those_of_a_flood_fill(mask):
    runs = horizontal_runs(mask)
    labels = np.zeros(mask.shape, int)
    labels[mask] = np.repeat(label_runs(runs, mask.shape[1]) + 1, runs.length)

    expected = flood(mask)
    pairs = set(zip(labels[mask].tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == expected.max() == labels.max()


@settings(max_examples=100, deadline=None)
@given(masks)
def test_runs_cover_exactly_the_mask(mask):
    runs = horizontal_runs(mask)
    drawn = np.zeros_like(mask)
    for row, start, end in zip(runs.row, runs.start, runs.end, strict=True):
        assert not drawn[row, start:end].any()
        drawn[row, start:end] = True

    np.testing.assert_array_equal(drawn, mask)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 11])
def test_opening_removes_narrower_details_and_keeps_wider_ones(size):
    a = np.zeros((40, 40))
    a[5 : 5 + size, 5:30] = 1
    a[20 : 20 + size - 1, 5:30] = 1

    kept = opening(a, size)

    np.testing.assert_array_equal(kept[:16], a[:16])
    assert not kept[16:].any()


@given(masks, st.sampled_from([1, 3, 5, 7]))
def test_closing_fills_what_an_opening_of_the_background_removes(mask, size):
    around = padded(mask, size, size)

    expected = ~opening(~around, size)[size:-size, size:-size]
    np.testing.assert_array_equal(closing(mask, size), expected)


@given(masks.filter(np.any))
def test_the_bounding_box_is_the_smallest_that_holds_the_mask(mask):
    box = bounding_box(mask)

    assert mask[box].sum() == mask.sum()
    assert all(mask[box].any(axis)[[0, -1]].all() for axis in (0, 1))


@given(masks)
def test_isolated_pixels_are_components_of_one_pixel(mask):
    assert count_isolated(mask) == np.count_nonzero(np.bincount(flood(mask)[mask]) == 1)


def test_dilation_reaches_four_or_eight_neighbours():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True

    assert dilation(mask).sum() == 9
    assert dilation(mask.astype(np.float32), corners=True).sum() == 9
    assert dilation(mask.astype(np.float32), corners=False).sum() == 5


def test_despeckling_removes_isolated_pixels_and_keeps_lines():
    a = np.zeros((20, 20), np.float32)
    a[3, 3] = a[15, 12] = 1
    a[10] = 1

    cleaned = despeckle(a)

    assert count_isolated(a > 0) == 2
    assert cleaned.sum() == cleaned[10].sum() == 20


@pytest.mark.parametrize("width", [2, 4, 8])
def test_stroke_width_is_estimated_to_within_a_fifth(width):
    mask = np.zeros((40, 200), bool)
    mask[10 : 10 + width, 5:195] = True

    assert stroke_width(mask) == pytest.approx(width, rel=0.2)


@given(masks.filter(np.any))
def test_the_largest_share_is_that_of_the_largest_component(mask):
    area = np.bincount(flood(mask)[mask])

    assert largest_share(mask) == pytest.approx(area.max() / mask.sum())


@given(masks, st.integers(0, 2**32 - 1))
def test_propagation_keeps_the_components_that_hold_a_seed(mask, seed):
    seeds = mask & (np.random.default_rng(seed).random(mask.shape) < 0.2)
    labels = flood(mask)

    expected = np.isin(labels, labels[seeds]) & mask
    np.testing.assert_array_equal(propagation(seeds, mask), expected)
