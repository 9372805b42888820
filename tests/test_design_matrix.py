from pathlib import Path

import numpy as np
import pytest
import torch

from service.features import FEATURES
from training.data import Digits
from training.design_matrix import design_matrix


@pytest.fixture
def few(drawn) -> Digits:
    return drawn.train.rows(0, 60)


@pytest.mark.parametrize("features", FEATURES)
def test_without_copies_the_rows_are_the_features_exactly(features, few, tmp_path):
    phi, labels = design_matrix(few, features, 0, tmp_path).batch(slice(0, 60))

    np.testing.assert_array_equal(phi[:, :-1].numpy(), FEATURES[features](few.images))
    assert phi[:, -1].tolist() == [1.0] * 60
    assert labels.tolist() == few.labels.tolist()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_copies", [0, 1])
def test_pixels_stay_bytes(n_copies, few, tmp_path):
    rows = design_matrix(few, "pixels", n_copies, tmp_path)

    assert rows.values.dtype == torch.uint8
    assert rows.values.shape == (60 * (1 + n_copies), 785)


def test_copies_follow_the_digits_with_the_same_labels(few, tmp_path):
    rows = design_matrix(few, "stroke-edges", 2, tmp_path)

    phi, labels = rows.batch(slice(0, 180))
    expected = FEATURES["stroke-edges"](few.images)
    assert phi.shape == (180, expected.shape[1] + 1)
    np.testing.assert_allclose(phi[:60, :-1], expected, rtol=1e-3, atol=1e-3)
    assert phi[:, -1].tolist() == [1.0] * 180
    assert labels.tolist() == few.labels.tolist() * 3
    assert not torch.equal(phi[60:120], phi[120:])


def test_matrix_is_found_again_and_only_the_last_is_kept(few, drawn, tmp_path):
    first = design_matrix(few, "stroke-edges", 1, tmp_path)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns

    again = design_matrix(few, "stroke-edges", 1, tmp_path)

    assert torch.equal(first.values, again.values)
    assert kept.stat().st_mtime_ns == written

    design_matrix(drawn.train.rows(1, 61), "stroke-edges", 1, tmp_path)

    (other,) = tmp_path.iterdir()
    assert other != kept


def test_damaged_cache_is_computed_anew(few, tmp_path):
    matrix = design_matrix(few, "stroke-edges", 1, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])

    again = design_matrix(few, "stroke-edges", 1, tmp_path)

    assert torch.equal(matrix.values, again.values)


def test_cache_that_cannot_be_written_is_done_without(few):
    matrix = design_matrix(few, "stroke-edges", 1, Path("/proc/nowhere"))

    assert len(matrix) == 120
