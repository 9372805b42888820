"""The fit of the logistic regression that a wide shape is several digits."""

import numpy as np
import pytest

from benchmarks.several import Shapes, fitted_weights, n_several, shapes
from service.classifier import load
from service.number import refusals
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import encode


def evidence(n, mean, rng):
    """Draw evidence (n, 6) that differs by class in the first and the fourth column."""
    table = rng.normal(size=(n, 6))
    table[:, [0, 3]] += mean
    table[:, 5] = 1
    return table


def test_fit_finds_pairs_and_refuses_as_many_single_digits_as_asked():
    rng = np.random.default_rng(0)
    pairs = Shapes(evidence(2_000, [1.5, -1.5], rng), 2_000)
    singles = Shapes(evidence(400, [-1.5, 1.5], rng), 10_000)  # of most, the shape is not wide

    weights = fitted_weights(pairs, singles, n_refused=30)

    assert n_several(singles, weights) == 30
    assert n_several(pairs, weights) > 1_980
    assert weights[0] > 5 * abs(weights[1])
    assert weights[3] < -5 * abs(weights[1])


@pytest.mark.parametrize("shift", [0, 40])
def test_evidence_is_recorded_of_wide_shapes_only(drawn, shift):
    one = drawn.test.images[drawn.test.labels == 0][0]
    ink = np.zeros((60, 120), np.uint8)
    for x in {30, 30 + shift // 2}:
        ink[16:44, x : x + 28] = np.maximum(ink[16:44, x : x + 28], one)

    found = shapes([encode(ink)], load(EMBEDDED_WEIGHTS))

    assert found.n_pictures == 1
    assert found.evidence[:, 0].max(initial=0) <= refusals.MOST_CROSSED
    assert len(found.evidence) == (shift > 0)
    assert found.evidence.size == len(found.evidence) * len(refusals.SEVERAL_WEIGHTS)


def test_shape_that_is_surely_a_digit_is_one_whatever_its_cuts_cross():
    # a rotated 4 that was refused: several digits are e^-6.75 times as likely as one
    evidence = [refusals.MOST_CROSSED, -7.57, -6.75, 0.97, 1, 1]

    assert refusals.SEVERAL_WEIGHTS @ evidence < 0
