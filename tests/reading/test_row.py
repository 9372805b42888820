"""Components as the pieces of a row of digits."""

import numpy as np
import pytest

from service.reading.binarise import Strokes
from service.reading.cuts import find_cuts
from service.reading.row import MAX_PIECES, select_row
from service.reading.segmentation import find_marks

SIDE = 60


def row_of(mask: np.ndarray):
    ink = mask.astype(np.float32)
    return select_row(find_marks(Strokes(ink, mask, 1.0, 0.0)))


def ring(width: int = 24, height: int = 40, pen: int = 5) -> np.ndarray:
    """A boxy 0."""
    mask = np.ones((height, width), bool)
    mask[pen:-pen, pen:-pen] = False
    return mask


def on_paper(*shapes: tuple[int, int, np.ndarray]) -> np.ndarray:
    """Place shapes at rows and columns of a mask."""
    mask = np.zeros((SIDE, 3 * SIDE), bool)
    for top, left, shape in shapes:
        mask[top : top + shape.shape[0], left : left + shape.shape[1]] |= shape
    return mask


def pieces(row) -> list[tuple[int, int]]:
    """The first and the last column of each piece, from left to right."""
    return [(left, right) for _, left, _, right in row.boxes().tolist()]


def test_components_are_pieces_from_left_to_right():
    row = row_of(on_paper((12, 90, ring()), (8, 20, ring()), (10, 50, ring())))

    assert pieces(row) == [(20, 44), (50, 74), (90, 114)]
    assert row.height == 40
    assert not row.has_several_rows


def test_two_halves_one_above_the_other_are_one_piece():
    row = row_of(on_paper((5, 20, ring(height=22)), (30, 22, ring(height=25)), (8, 60, ring())))

    assert pieces(row) == [(20, 46), (60, 84)]


def test_the_bar_of_a_five_may_join_either_neighbour():
    bar = np.ones((5, 12), bool)
    row = row_of(on_paper((10, 20, ring()), (8, 46, bar), (10, 60, ring())))

    keys = {segment.key for segment in row.segments()}

    body, detached, other = row.order
    assert {(body, detached), (detached, other)} <= keys


def test_specks_far_from_the_digits_are_dropped():
    speck = np.ones((3, 3), bool)
    row = row_of(on_paper((10, 20, ring()), (10, 60, ring()), (3, 150, speck)))

    assert pieces(row) == [(20, 44), (60, 84)]


def test_five_hundred_specks_are_few_pieces():
    mask = on_paper((10, 20, ring()))
    rng = np.random.default_rng(0)
    for y, x in rng.integers(1, [SIDE - 3, 3 * SIDE - 3], (500, 2)):
        mask[y : y + 2, x : x + 2] = True

    assert len(row_of(mask).order) <= MAX_PIECES


def test_digits_below_others_are_several_rows():
    small = ring(16, 20, 3)
    grid = [(top, left, small) for top in (5, 34) for left in (20, 50, 80)]

    assert row_of(on_paper(*grid)).has_several_rows


@pytest.mark.parametrize(("gap", "has_several"), [(3, False), (8, True)])
def test_two_shapes_one_above_the_other_are_parts_of_a_digit_if_they_are_close(gap, has_several):
    small = ring(20, 24, 4)

    row = row_of(on_paper((2, 20, small), (26 + gap, 20, small)))

    assert row.has_several_rows == has_several


def test_a_number_on_a_slope_is_one_row():
    steps = [(5 + 8 * i, 10 + 30 * i, ring(20, 24, 4)) for i in range(4)]

    row = row_of(on_paper(*steps))

    assert not row.has_several_rows
    assert len(row.order) == 4


def test_a_cut_passes_where_two_digits_touch():
    two = on_paper((10, 20, ring()), (10, 50, ring()))
    two[30:33, 40:54] = True

    cuts = find_cuts(two[10:50, 20:74])

    assert any((cut.columns >= 24).all() and (cut.columns <= 30).all() for cut in cuts)


def test_cut_pieces_cover_the_component_from_left_to_right():
    two = on_paper((10, 20, ring()), (10, 50, ring()))
    two[30:33, 40:54] = True
    row = row_of(two)
    (label,) = row.order

    parts = row.cut(label)

    assert len(parts) > 1
    np.testing.assert_array_equal(np.isin(row.label, parts), two)
    lefts = [left for left, _ in pieces(row)]
    assert lefts == sorted(lefts)


def test_what_is_too_narrow_for_three_digits_is_cut_once():
    row = row_of(on_paper((10, 20, ring(40))))
    n_parts = len(row.cut(row.order[0]))

    spans = {(segment.first, segment.last) for segment in row.segments()}

    assert n_parts > 2
    assert all(first == 0 or last == n_parts for first, last in spans)


def test_a_narrow_stroke_is_not_cut():
    row = row_of(on_paper((10, 20, np.ones((40, 6), bool)), (10, 40, ring())))

    assert row.cut(row.order[0]) == (row.order[0],)


@pytest.mark.parametrize("ink", [np.ones((40, 40), bool), np.ones((1, 3), bool)])
def test_a_blob_and_a_speck_have_a_black_image(ink):
    row = row_of(on_paper((10, 20, ink)))

    (segment,) = row.segments()
    assert not row.image(segment).any()


def test_the_ink_of_a_neighbour_is_not_in_the_image_of_a_segment():
    row = row_of(on_paper((10, 20, ring()), (10, 46, ring())))

    alone = row_of(on_paper((10, 20, ring())))

    first, *_ = (row.image(segment) for segment in row.segments())
    np.testing.assert_array_equal(first, alone.image(next(alone.segments())))
