"""What of a mask is the digit: specks, frames, boxes and companions."""

import numpy as np
import pytest

from service.images import read_levels
from service.reading.binarise import Strokes
from service.reading.components import Components
from service.reading.errors import InvalidImage
from service.reading.frames import not_fingers
from service.reading.morphology import bounding_box
from service.reading.ruled_lines import remove_ruled_lines
from service.reading.segmentation import Doubt, select_digit

SIDE = 100


@pytest.fixture
def five() -> np.ndarray:
    """The strokes of a 5 whose bar is apart from its belly."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[25:30, 40:65] = True
    mask[33:50, 38:43] = True
    mask[46:51, 38:62] = True
    mask[46:75, 58:63] = True
    mask[71:76, 36:63] = True
    return mask


def kept(mask: np.ndarray) -> np.ndarray:
    ink = mask.astype(np.float32)
    return select_digit(Strokes(ink, mask, 1.0, 0.0)).mask


def test_parts_of_a_digit_stay_together(five):
    np.testing.assert_array_equal(kept(five), five)


def test_specks_are_dropped(five):
    specks = np.zeros_like(five)
    specks[5:8, 10:13] = specks[90:92, 80:83] = True

    np.testing.assert_array_equal(kept(five | specks), five)


@pytest.mark.parametrize("sides", [1, 2, 4])
def test_a_frame_at_the_border_is_dropped(sides, five):
    frame = np.zeros_like(five)
    for side in range(sides):
        np.rot90(frame, side)[1:4] = True

    np.testing.assert_array_equal(kept(five | frame), five)


def test_a_printed_box_around_the_digit_is_dropped(five):
    box = np.zeros_like(five)
    box[15:85, 25:75] = True
    box[18:82, 28:72] = False

    np.testing.assert_array_equal(kept(five | box), five)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_only_what_is_in_a_box_is_read_beside_empty_boxes_and_a_label(place, five):
    form = np.zeros((SIDE, 4 * SIDE), bool)
    boxes = np.split(form, 4, axis=1)
    for i, box in enumerate(boxes):
        box[15:85, 15 : 85 - i] = True
        box[18:82, 18 : 82 - i] = False
    digit = np.zeros_like(form)
    np.split(digit, 4, axis=1)[place][:] = five
    label = np.zeros_like(form)
    for left in range(20, 80, 9):
        label[2:12, left : left + 5] = True

    np.testing.assert_array_equal(kept(form | label | digit), digit)


@pytest.mark.parametrize("is_boxed", [False, True])
def test_another_digit_outside_of_the_box_is_not_left_out(is_boxed, five):
    page = np.zeros((SIDE, 3 * SIDE), bool)
    page[15:85, 25:75] = page[15:85, 125:175] = True
    page[18:82, 28:72] = page[18:82, 128:172] = False
    page[:, :SIDE] |= five
    # the second digit touches its box, or has none
    second = slice(SIDE + 12, 2 * SIDE + 12) if is_boxed else slice(2 * SIDE, 3 * SIDE)
    page[:, second] |= five

    ink = page.astype(np.float32)
    digit = select_digit(Strokes(ink, page, 1.0, 0.0))
    assert digit.doubt != Doubt.NONE


def test_a_box_with_little_in_it_does_not_hold_the_digit(five):
    page = np.zeros((SIDE, 2 * SIDE), bool)
    page[:, :SIDE] = five
    box = np.zeros_like(page)
    box[20:80, 130:190] = True
    box[21:79, 131:189] = False
    box[45:54, 155:160] = True

    np.testing.assert_array_equal(kept(page | box), page)


def ellipse(centre: tuple[int, int], half: tuple[float, float], pen: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot((y - centre[0]) / half[0], (x - centre[1]) / half[1])
    return np.abs(radius - 1) * min(half) < pen / 2


@pytest.mark.parametrize("half", [(45, 45), (44, 38), (38, 46)])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_circle_around_the_digit_is_dropped(half, is_open, five):
    circle = ellipse((50, 50), half, pen=4)
    circle[:20, 50:60] &= not is_open

    np.testing.assert_array_equal(kept(five | circle), five)


@pytest.mark.parametrize("half", [(40, 25), (35, 33)])
def test_a_0_with_a_dot_is_no_circle_around_a_digit(half):
    zero = ellipse((50, 50), half, pen=6)
    dot = np.zeros_like(zero)
    dot[44:57, 44:57] = True

    np.testing.assert_array_equal(kept(zero | dot), zero | dot)


@pytest.mark.parametrize("lean", [0, 12, 20])
def test_a_ring_around_a_straight_stroke_may_be_a_0_with_a_slash(lean):
    zero = ellipse((50, 50), (44, 40), pen=5)
    y, x = np.mgrid[:SIDE, :SIDE]
    slash = (np.abs(x - 50 + lean * (y - 50) / 25) < 3) & (np.abs(y - 50) < 25)

    np.testing.assert_array_equal(kept(zero | slash), zero | slash)


def alone(mask: np.ndarray) -> np.ndarray | None:
    ink = mask.astype(np.float32)
    digit = select_digit(Strokes(ink, mask, 1.0, 0.0)).alone
    return digit and digit.mask


@pytest.mark.parametrize("lines", [[80], [80, 88], [78, 84, 90]])
def test_lines_below_the_digit_may_underline_it(lines, five):
    underlined = five.copy()
    for top in lines:
        underlined[top : top + 3, 25:75] = True

    np.testing.assert_array_equal(alone(underlined), five)
    assert alone(five) is None


@pytest.mark.parametrize("line", [(slice(14, 18), slice(30, 70)), (slice(80, 86), slice(46, 54))])
def test_a_bar_above_or_a_short_one_below_does_not_underline(line, five):
    mask = five.copy()
    mask[line] = True

    assert alone(mask) is None


@pytest.mark.parametrize("touching", [0, 2])
@pytest.mark.parametrize("left", [5, 40])
def test_a_long_line_that_the_digit_stands_on_may_be_left_out(left, touching, five):
    page = np.zeros((SIDE, 200), bool)
    page[:, left : left + SIDE] = five
    on_line = page.copy()
    on_line[76 - touching : 79 - touching, 20:170] = True

    left_out = alone(on_line)
    assert left_out is not None
    # only under the digit's lowest stroke is the line kept
    differences = np.argwhere(left_out ^ page)
    assert (differences[:, 0] >= 76 - touching).all()
    assert (np.abs(differences[:, 1] - left - 50) <= 15).all()


@pytest.mark.parametrize("gap", [-1, 0, 5])
@pytest.mark.parametrize("end", [165, 190])
def test_a_digit_over_a_long_line_is_read_without_it(gap, end, five):
    page = np.full((80, 200), 240, np.uint8)
    page[10:60, 60:110][five[::2, ::2]] = 20
    on_line = page.copy()
    on_line[48 + gap : 50 + gap, end - 150 : end] = 60

    alone, with_line = (bounding_box(read_levels(each) > 127) for each in (page, on_line))
    for side, expected in zip(with_line, alone, strict=True):
        assert abs((side.stop - side.start) - (expected.stop - expected.start)) <= 1


def test_a_bar_as_long_as_the_digit_is_no_line(five):
    seven = np.zeros((SIDE, SIDE), bool)
    seven[30:36, 20:80] = seven[30:80, 74:80] = True

    assert alone(seven) is None


def letters(lefts: range, rows: slice, gap: int) -> np.ndarray:
    """A line of letters 6 pixels wide, each with a hole, or one without gaps."""
    mask = np.zeros((SIDE, SIDE), bool)
    for left in lefts:
        mask[rows, left : left + 6 + (gap == 0)] = True
        mask[rows.start + 3 : rows.start + 5, left + 2 : left + 4] = False
    return mask


@pytest.mark.parametrize("rows", [slice(13, 21), slice(80, 88)])
@pytest.mark.parametrize(("lefts", "gap"), [(range(20, 80, 9), 3), (range(45, 72, 8), 2)])
def test_a_word_above_or_below_is_no_part_of_the_digit(rows, lefts, gap, five):
    np.testing.assert_array_equal(alone(five | letters(lefts, rows, gap)), five)


@pytest.mark.parametrize("left", [2, 69])
def test_a_word_beside_or_one_whose_letters_touch_is_no_part_of_the_digit(left, five):
    beside = letters(range(left, left + 30, 10), slice(40, 50), gap=4)
    np.testing.assert_array_equal(alone(five | beside), five)

    touching = letters(range(20, 62, 6), slice(4, 12), gap=0)
    np.testing.assert_array_equal(alone(five | touching), five)


def test_two_parts_of_a_digit_are_no_word(five):
    mask = five.copy()
    mask[40:44, 66:72] = mask[40:44, 76:82] = True

    assert alone(mask) is None


def test_a_stroke_that_touches_the_border_is_kept():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:80, 48:54] = True

    np.testing.assert_array_equal(kept(mask), mask)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize(("at", "half", "length"), [(25, 14, 26), (50, 17, 24), (78, 16, 30)])
def test_a_finger_at_the_border_is_dropped(turns, at, half, length, five):
    small = np.pad(five[::2, ::2], SIDE // 4)
    y, x = np.mgrid[:SIDE, :SIDE]
    tip = length - half
    finger = (np.abs(x - at) < half) & (y < tip) | (np.hypot(y - tip, x - at) < half)

    np.testing.assert_array_equal(kept(small | np.rot90(finger, turns)), small)


def test_a_plump_digit_at_the_border_is_kept_beside_a_speck():
    one = np.zeros((SIDE, SIDE), bool)
    one[:90, 40:75] = True
    speck = np.zeros_like(one)
    speck[50:58, 10:18] = True

    np.testing.assert_array_equal(kept(one | speck), one)


def test_a_digit_on_a_line_is_also_read_without_a_word_above_it(five):
    page = np.zeros((SIDE, SIDE), bool)
    page[33:84] = five[25:76]
    on_line = page.copy()
    on_line[83:86, 4:96] = True
    word = np.zeros_like(page)
    for left in (26, 37, 48, 59):
        word[16:26, left : left + 8] = True

    left_out = alone(on_line | word)

    assert left_out is not None
    assert not left_out[:30].any()
    assert left_out[:80, 36:64].sum() > 0.9 * page[:80].sum()
    assert not left_out[:, :30].any()


@pytest.mark.parametrize(
    "stroke",
    [
        (slice(0, SIDE), slice(50, 92)),  # from border to border, as a digit that fills the picture
        (slice(0, 60), slice(78, 90)),  # five times as long as wide
    ],
)
def test_a_long_stroke_at_the_border_is_no_finger(stroke, five):
    mask = np.zeros_like(five)
    mask[stroke] = True
    parts = Components(mask | np.pad(five[:, 30:], ((0, 0), (0, 30))))
    possible = np.ones(len(parts.area), bool)

    assert not_fingers(parts, possible).all()


@pytest.mark.parametrize("slope", [0.0, 0.03, -0.05])
@pytest.mark.parametrize("both", [False, True])
def test_the_lines_of_ruled_and_squared_paper_are_removed(slope, both, five):
    y, x = np.mgrid[:SIDE, :SIDE]
    lines = (y - slope * x) % 17 < 1.5
    if both:
        lines |= (x + slope * y) % 17 < 1.5

    left = kept(remove_ruled_lines(five | lines))

    assert (left & five).sum() > 0.8 * (left | five).sum()


def test_a_line_that_is_thicker_than_the_others_is_removed(five):
    lines = np.zeros((SIDE, SIDE), bool)
    lines[5::17] = lines[4:7] = lines[55:58] = True

    left = kept(remove_ruled_lines(five | lines))

    assert (left & five).sum() > 0.8 * (left | five).sum()


def test_the_bar_of_a_digit_that_fills_its_picture_is_kept():
    seven = np.zeros((40, 30), bool)
    seven[2:7] = True
    seven[2:38, 22:27] = True

    np.testing.assert_array_equal(remove_ruled_lines(seven), seven)


def test_the_foot_of_a_small_two_that_fills_its_picture_is_kept():
    two = np.zeros((16, 16), bool)
    two[0:2, 2:12] = True
    two[2:8, 10:13] = True
    two[7:14, 4:8] = True
    two[14:16] = True

    np.testing.assert_array_equal(remove_ruled_lines(two), two)


def test_lines_alone_are_refused():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[10::12] = True

    with pytest.raises(InvalidImage, match="only ruled lines"):
        remove_ruled_lines(mask)


def test_dust_alone_is_refused():
    mask = np.random.default_rng(0).random((SIDE, SIDE)) < 0.02

    with pytest.raises(InvalidImage, match="specks"):
        kept(mask)


def test_an_empty_mask_is_refused():
    with pytest.raises(InvalidImage, match="no ink"):
        kept(np.zeros((SIDE, SIDE), bool))
