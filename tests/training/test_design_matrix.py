"""The design matrix and its cache."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from service.features import FEATURES
from training.data.dataset import Digits
from training.design.design_matrix import SHUFFLED_ROWS, design_matrix


@pytest.fixture
def few(drawn) -> Digits:
    return drawn.train.rows(0, 60)


@pytest.mark.parametrize("features", FEATURES)
def test_rows_without_copies_are_exactly_the_features(features, few, tmp_path):
    phi, labels = design_matrix([few], features, 0, tmp_path).batch(slice(0, 60))

    np.testing.assert_array_equal(phi[:, :-1].numpy(), FEATURES[features](few.images))
    assert phi[:, -1].tolist() == [1.0] * 60
    assert labels.tolist() == few.labels.tolist()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_copies", [0, 1])
def test_pixels_stay_uint8(n_copies, few, tmp_path):
    rows = design_matrix([few], "pixels", n_copies, tmp_path)

    assert rows.values.dtype == torch.uint8
    assert rows.values.shape == (60 * (1 + n_copies), 785)


def test_augmented_copies_follow_the_digits_with_the_same_labels(few, tmp_path):
    rows = design_matrix([few], "stroke-edges", 2, tmp_path)

    phi, labels = rows.batch(slice(0, 180))
    expected = FEATURES["stroke-edges"](few.images)
    assert phi.shape == (180, expected.shape[1] + 1)
    np.testing.assert_allclose(phi[:60, :-1], expected, rtol=1e-3, atol=1e-3)
    assert phi[:, -1].tolist() == [1.0] * 180
    assert labels.tolist() == few.labels.tolist() * 3
    assert not torch.equal(phi[60:120], phi[120:])


def test_matrix_is_read_from_the_cache_which_keeps_only_the_last(few, drawn, tmp_path):
    first = design_matrix([few], "stroke-edges", 1, tmp_path)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns

    again = design_matrix([few], "stroke-edges", 1, tmp_path)

    assert torch.equal(first.values, again.values)
    assert kept.stat().st_mtime_ns == written

    design_matrix([drawn.train.rows(1, 61)], "stroke-edges", 1, tmp_path)

    (other,) = tmp_path.iterdir()
    assert other != kept


def test_damaged_cache_is_computed_again(few, tmp_path):
    values = design_matrix([few], "stroke-edges", 1, tmp_path).values.clone()
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    kept.unlink()  # not truncated in place, because it may still be mapped
    kept.write_bytes(content[:1000])

    again = design_matrix([few], "stroke-edges", 1, tmp_path)

    assert torch.equal(values, again.values)


@pytest.mark.parametrize("at", [0.01, 0.5, 1.0])
def test_cache_with_a_changed_byte_is_computed_again(at, few, tmp_path, capsys):
    values = design_matrix([few], "stroke-edges", 1, tmp_path).values.clone()
    (kept,) = tmp_path.iterdir()
    content = bytearray(kept.read_bytes())
    kept.unlink()  # not changed in place, because it may still be mapped
    content[int(at * (len(content) - 1))] ^= 0xFF
    kept.write_bytes(content)

    again = design_matrix([few], "stroke-edges", 1, tmp_path)

    assert torch.equal(values, again.values)
    assert capsys.readouterr().err == f"{kept} is damaged: computing it again\n"
    design_matrix([few], "stroke-edges", 1, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["shape", "dtype", "order", "header", "zip", "pipe"])
def test_cache_of_another_kind_is_computed_again(damage, few, tmp_path):
    matrix = design_matrix([few], "stroke-edges", 1, tmp_path).values.clone()
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    kept.unlink()
    if damage == "pipe":
        os.mkfifo(kept)
    else:
        old, new = {
            "shape": (b"(120, 721)", b"(721, 120)"),
            "dtype": (b"<f2", b"<i2"),
            "order": (b"False", b"True "),
            "header": (b"}", b" "),
            "zip": (b"\x93NUMPY", b"PK\3\4PK"),
        }[damage]
        assert old in content
        kept.write_bytes(content.replace(old, new, 1))

    again = design_matrix([few], "stroke-edges", 1, tmp_path)

    assert torch.equal(matrix, again.values)


def test_old_partial_file_of_a_killed_job_is_deleted(few, tmp_path):
    old, new = (tmp_path / f".train-{digest}.npy.7" for digest in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))

    design_matrix([few], "stroke-edges", 1, tmp_path)

    assert (old.exists(), new.exists()) == (False, True)


def test_matrix_is_computed_without_a_writable_cache(few, tmp_path):
    kept = design_matrix([few], "stroke-edges", 1, tmp_path)

    matrix = design_matrix([few], "stroke-edges", 1, Path("/proc/nowhere"))

    assert len(matrix) == 120
    assert torch.equal(matrix.values, kept.values)


def test_large_matrix_is_mapped_and_each_purpose_has_its_own_file(few, tmp_path):
    in_memory = design_matrix([few], "pixels", 0, tmp_path, max_held=60 * 785)

    mapped = design_matrix([few], "pixels", 0, tmp_path, max_held=60 * 785 - 1)
    design_matrix([few], "stroke-edges", 0, tmp_path, "check", max_held=0)

    assert torch.equal(in_memory.values, mapped.values)
    assert in_memory.values.data_ptr() % 64 == mapped.values.data_ptr() % 64 == 0
    names = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert names == ["check", "train"]
    maps = Path("/proc/self/maps").read_text()
    assert f"{tmp_path}/train-" in maps


def test_very_large_matrix_is_shuffled_in_blocks(few, tmp_path):
    n_bytes = 60 * 785
    whole = design_matrix([few], "pixels", 0, tmp_path, max_shuffled=n_bytes)
    blocks = design_matrix([few], "pixels", 0, tmp_path, max_shuffled=n_bytes - 1)

    assert whole.block is None
    assert blocks.block == SHUFFLED_ROWS


def test_rows_of_the_second_part_follow_the_first(few, drawn, tmp_path):
    other = drawn.train.rows(60, 71)

    rows = design_matrix([few, other], "pixels", 0, tmp_path)

    whole = design_matrix([drawn.train.rows(0, 71)], "pixels", 0, tmp_path)
    assert torch.equal(rows.values, whole.values)
    assert torch.equal(rows.labels, whole.labels)


def test_copies_of_the_second_part_follow_those_of_the_first(few, drawn, tmp_path):
    other, last = drawn.train.rows(60, 71), drawn.train.rows(71, 75)

    rows = design_matrix([few, other, last], "pixels", 2, tmp_path, n_rare_copies=1)

    assert len(rows) == 75 + 2 * 60 + 11
    assert rows.labels.tolist() == [
        *drawn.train.labels[:75],
        *(2 * few.labels.tolist()),
        *other.labels,
    ]
    assert not torch.equal(rows.values[-11:], rows.values[60:71])
