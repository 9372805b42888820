"""Accuracy, loss, calibration error, precision and recall."""

import numpy as np
import pytest

from training.results.evaluation import evaluate, precision_and_recall, probabilities


def test_metrics_are_those_computed_by_hand():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    labels = np.array([0, 1, 1, 0])

    figures = evaluate(p, labels)

    assert figures["n"] == 4
    assert figures["accuracy"] == 0.75
    assert figures["nll"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.8]).mean())
    assert figures["brier"] == pytest.approx(2 * (0.01 + 0.36 + 0.09 + 0.04) / 4)
    # each bin has one row: |1 - .9|, |0 - .6|, |1 - .7|, |1 - .8|
    assert figures["ece"] == pytest.approx((0.1 + 0.6 + 0.3 + 0.2) / 4)
    assert figures["confusion"] == [[2, 0], [1, 1]]


def test_a_refusal_counts_as_an_error_and_in_no_other_metric():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    labels = np.array([0, 1, 1, 0])
    refused = np.array([False, False, True, False])

    figures = evaluate(p, labels, refused)

    assert (figures["n"], figures["accuracy"], figures["refused"]) == (4, 0.5, 0.25)
    answered = evaluate(p[~refused], labels[~refused])
    for name in ("nll", "brier", "ece", "confusion"):
        assert figures[name] == answered[name]


def test_metrics_are_finite_where_all_rows_are_refused():
    figures = evaluate(np.array([[0.9, 0.1]]), np.array([0]), np.array([True]))

    assert figures["accuracy"] == figures["nll"] == figures["brier"] == figures["ece"] == 0


def test_calibration_error_is_of_bins_and_not_of_rows():
    """Seven of ten right at a confidence of 0.7 is well calibrated."""
    p = np.tile([0.7, 0.3], (10, 1))

    assert evaluate(p, np.array([0] * 7 + [1] * 3))["ece"] == pytest.approx(0)
    assert evaluate(p, np.array([0] * 2 + [1] * 8))["ece"] == pytest.approx(0.5)


def test_probability_1_is_in_the_last_bin_and_has_a_finite_loss():
    figures = evaluate(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))

    assert figures["ece"] == pytest.approx(0.5)
    assert np.isfinite(figures["nll"])


def test_precision_is_a_share_of_columns_and_recall_of_rows():
    precision, recall = precision_and_recall([[3, 1, 0], [2, 2, 0], [0, 0, 0]])

    assert precision.tolist() == [3 / 5, 2 / 3, 0]
    assert recall.tolist() == [3 / 4, 2 / 4, 0]


def test_probabilities_in_blocks_are_those_of_all_images_at_once(classifier, drawn):
    images = np.concatenate([drawn.train.images, drawn.train.images])

    np.testing.assert_array_equal(
        probabilities(classifier, images), classifier.predict_proba(images)
    )
