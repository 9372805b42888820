"""Order statistics: numpy's, and samples of large arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.reading.order_statistics import SAMPLE, from_top, median, otsu, quantiles

levels = arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=32))


@given(values=levels, share=st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values, share):
    expected = np.quantile(values.astype(float), [share, 0.5])

    assert quantiles(values, share, 0.5) == pytest.approx(expected, abs=1e-12)


def test_quantiles_of_many_values_are_those_of_numpy():
    values = np.random.default_rng(0).integers(0, 9, SAMPLE).astype(np.float32)

    shares = [0.0, 0.3, 0.999, 1.0]
    assert quantiles(values, *shares) == pytest.approx(np.quantile(values, shares))


@given(values=levels, data=st.data())
def test_a_rank_from_the_top_is_that_of_a_sort(values, data):
    rank = data.draw(st.integers(1, len(values)))

    assert from_top(values, rank, 1) == [sorted(values.tolist())[-rank], values.max()]


def test_the_median_of_a_large_picture_of_noise_is_found_to_within_a_few_percent():
    noise = np.random.default_rng(0).normal(0, 1, (300, 10 * SAMPLE // 300)).astype(np.float32)

    assert median(noise) == pytest.approx(float(np.median(noise)), abs=0.1)


def test_otsu_separates_two_classes_of_a_large_picture():
    levels = np.zeros((300, 300), np.float32)
    levels[100:130, 50:250] = 1

    assert 0 < otsu(levels) < 1


def test_otsu_separates_two_classes_at_a_level_between_them():
    generator = np.random.default_rng(0)
    dark, light = generator.normal(0.2, 0.05, 900), generator.normal(0.8, 0.05, 100)

    assert 0.3 < otsu(np.concatenate([dark, light]).reshape(40, 25)) < 0.7
