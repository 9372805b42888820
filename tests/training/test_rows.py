"""Rows of the design matrix in batches."""

import pytest
import torch

from training.design.rows import Rows


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(2500, 4, generator=generator).half()
    return Rows(torch.hstack([features, torch.ones(2500, 1)]), torch.arange(2500) % 3)


def test_batches_by_range_and_by_index_are_the_same(rows):
    by_range, by_index = rows.batch(slice(5, 9)), rows.batch(torch.arange(5, 9))

    for a, b in zip(by_range, by_index, strict=True):
        assert torch.equal(a, b)
    assert by_range[0].dtype == torch.float32


def test_integers_are_divided_by_the_value_of_one():
    rows = Rows(torch.tensor([[0, 51, 255]], dtype=torch.uint8), torch.tensor([1]), 255)

    phi, _ = rows.batch(slice(0, 1))

    assert phi.dtype == torch.float32
    assert phi.tolist() == [[0.0, pytest.approx(0.2), 1.0]]


def test_centred_rows_have_mean_zero_and_keep_their_one(rows):
    phi, _ = rows.centred().batch(slice(0, 2500))

    means = phi.double().mean(0)
    torch.testing.assert_close(means[:4], torch.zeros(4).double(), rtol=0, atol=1e-7)
    assert phi[:, -1].unique().tolist() == [1.0]
