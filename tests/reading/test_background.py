"""Ink separated from backgrounds of any light, colour and pattern."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from service.reading.background import Ink, separate_ink
from service.reading.errors import InvalidImage

H = 96


@pytest.fixture
def strokes() -> np.ndarray:
    """A mask of two strokes in the middle of a sheet."""
    mask = np.zeros((H, H), bool)
    mask[25:70, 45:52] = True
    mask[25:31, 30:60] = True
    return mask


def ink_of(levels: np.ndarray) -> Ink:
    """Separate the ink of levels (h, w) or (h, w, 3)."""
    planes = levels if levels.ndim == 2 else levels.transpose(2, 0, 1)
    return separate_ink(planes.astype(np.float32))


def is_separated(levels: np.ndarray, strokes: np.ndarray) -> bool:
    ink, share = ink_of(levels)
    return bool(((ink > share * np.median(ink[strokes])) == strokes).mean() > 0.99)


@pytest.mark.parametrize("ground", ["even", "slope", "vignette", "shadow"])
@pytest.mark.parametrize("is_light", [False, True])
def test_ink_is_separated_from_a_background_of_any_light_and_polarity(ground, is_light, strokes):
    y, x = np.mgrid[:H, :H] / H - 0.5
    paper = {
        "even": np.full((H, H), 0.6),
        "slope": 0.6 + 0.3 * x,
        "vignette": 0.8 - 0.6 * (x * x + y * y),
        "shadow": np.where(x + 0.3 * y > 0.1, 0.45, 0.75),
    }[ground]

    assert is_separated(np.where(strokes, 1.0 if is_light else 0.1, paper), strokes)


@pytest.mark.parametrize(
    ("pen", "sheet"),
    [
        ((0.94, 0.86, 0.16), (1, 1, 1)),
        ((0.86, 0.12, 0.12), (0.24, 0.24, 0.78)),
        ((0.47, 0.47, 0.78), (0.78, 0.47, 0.47)),
    ],
    ids=["yellow on white", "red on blue", "the same grey"],
)
def test_ink_is_separated_from_a_background_by_its_colour(pen, sheet, strokes):
    levels = np.where(strokes[..., np.newaxis], pen, sheet)

    assert is_separated(levels, strokes)


@pytest.mark.parametrize(
    ("pen", "line"),
    [
        ((0.4, 0.4, 0.4), (0.5, 0.62, 0.85)),
        ((0.15, 0.2, 0.6), (0.6, 0.85, 0.6)),
        ((0.4, 0.4, 0.4), (0.9, 0.5, 0.5)),
    ],
    ids=["pencil on blue", "blue on green", "pencil on red"],
)
def test_lines_of_squared_paper_are_no_ink_where_their_colour_is_another(pen, line, strokes):
    levels = np.full((H, H, 3), (0.9, 0.88, 0.82))
    levels[8::16] = levels[:, 5::16] = line
    levels[strokes] = pen

    assert is_separated(levels, strokes)


def test_lines_whose_colour_is_at_right_angles_to_the_pens_vanish(strokes):
    levels = np.full((H, H, 3), (0.95, 0.94, 0.9))
    levels[8::16, :, 2] = levels[:, 5::16, 2] = 0.7
    levels[strokes] = (0.95, 0.3, 0.9)

    ink, _ = ink_of(levels)

    assert np.abs(ink[~strokes]).max() < 1e-5


def test_lines_of_nearly_the_colour_of_the_pen_leave_the_ink_its_contrast(strokes):
    paper, pen = np.array([0.95, 0.94, 0.9]), np.array([0.15, 0.2, 0.6])
    levels = np.full((H, H, 3), paper)
    levels[8::16] = levels[:, 5::16] = (0.6, 0.68, 0.9)
    levels[strokes] = pen

    ink, _ = ink_of(levels)

    assert np.median(ink[strokes]) > 0.9 * np.abs(paper - pen).mean()


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)])
def test_a_background_without_ink_is_refused(shape):
    slope = np.zeros(shape, np.float32)
    slope += np.linspace(0.3, 0.9, 40).reshape(-1, *[1] * (len(shape) - 1))

    for levels in (np.full(shape, 0.4, np.float32), slope):
        with pytest.raises(InvalidImage, match="blank"):
            ink_of(levels)


FAT_STROKES = {
    "0": (26, [(16, 10, 84, 10), (84, 10, 84, 90), (84, 90, 16, 90), (16, 90, 16, 10)]),
    "4": (26, [(14, 5, 14, 55), (14, 55, 95, 55), (72, 20, 72, 95)]),
    "8": (26, [(15, 12, 85, 12), (85, 12, 15, 88), (15, 88, 85, 88), (85, 88, 15, 12)]),
    "4 in two pieces": (26, [(14, 8, 14, 50), (14, 50, 40, 50), (84, 8, 84, 92)]),
    "5 with a loose hat": (
        22,
        [(16, 12, 84, 12), (16, 44, 70, 44), (70, 44, 84, 64), (84, 64, 70, 87), (70, 87, 16, 87)],
    ),
}


@pytest.mark.parametrize(("pen", "lines"), FAT_STROKES.values(), ids=FAT_STROKES)
@pytest.mark.parametrize("is_light", [False, True])
def test_ink_of_a_fat_brush_that_touches_the_borders_is_not_background(pen, lines, is_light):
    picture = Image.new("L", (100, 100))
    for line in lines:
        ImageDraw.Draw(picture).line(line, fill=255, width=pen)
        for x, y in (line[:2], line[2:]):
            ImageDraw.Draw(picture).circle((x, y), pen / 2, fill=255)
    strokes = np.asarray(picture) > 127

    assert is_separated(strokes if is_light else ~strokes, strokes)


@pytest.mark.parametrize("is_light", [False, True])
def test_a_speck_of_the_other_polarity_does_not_make_a_faint_line_background(is_light):
    noise = np.random.default_rng(0).normal(0, 0.018, (200, 200))
    strokes = np.zeros((200, 200), bool)
    strokes[20:180, 100:102] = strokes[20:22, 40:160] = True
    ink = np.where(strokes, 0.09, 0.0)
    ink[30:32, 30:32] = -0.35
    levels = 0.5 + (ink if is_light else -ink) + noise

    plane, _ = ink_of(levels)

    assert plane[strokes].mean() > 0.05


@pytest.mark.parametrize("n_levels", [10, 11, 12, 13])
def test_a_gradient_of_few_levels_is_not_taken_for_two_colours(n_levels):
    slope = 120 + np.rint((n_levels - 1) * np.arange(40) / 40) * np.ones((40, 1))
    strokes = np.zeros((40, 40), bool)
    strokes[10:30, 18:21] = strokes[10:13, 12:26] = True

    assert is_separated((slope - 13 * strokes) / 255, strokes)


@pytest.mark.parametrize("desk", [0.15, 0.3])
def test_ink_is_separated_from_a_sheet_that_lies_on_a_desk(desk):
    """The desk is as dark as the ink, and the sheet is slightly tilted."""
    levels = np.full((200, 200), desk, np.float32)
    y, x = np.mgrid[:200, :200]
    levels[(abs(x - 100 + 0.08 * y) < 80) & (abs(y - 100 - 0.08 * x) < 80)] = 0.85
    strokes = np.zeros((200, 200), bool)
    strokes[70:130, 90:96] = strokes[70:76, 75:115] = True
    levels[strokes] = 0.15

    ink, share = ink_of(levels)

    inside = np.s_[45:150, 45:150]
    mask = ink > share * np.median(ink[strokes])
    assert (mask == strokes)[inside].mean() > 0.98


def test_fat_strokes_on_thin_grey_lines_are_no_shadow():
    levels = np.ones((80, 240), np.float32)
    levels[4::16] = 0.6
    strokes = np.zeros(levels.shape, bool)
    strokes[20:60, 40:64] = strokes[20:60, 150:154] = True
    levels[strokes] = 0

    ink, share = separate_ink(levels)

    assert (ink[strokes] > share).all()


def test_the_gaps_between_thin_strokes_under_shadows_are_no_ink():
    """An 8 drawn by a thin pen beside a soft crease on paper with dark corners."""
    y, x = np.mgrid[:192, :256] / 256 - 0.5
    crease = (x + 0.3 * y - 0.05) / 0.03
    light = 1 - 0.9 * (x * x + (y + 0.125) ** 2)
    light *= 1 - 0.15 * crease * np.exp(-crease * crease)
    loops = [np.hypot(x, y + 0.125 - centre) - 0.05 for centre in (-0.051, 0.051)]
    strokes = np.minimum(*map(abs, loops)) < 0.004
    noise = np.random.default_rng(0).normal(0, 0.004, light.shape)

    assert is_separated(0.8 * light + noise - 0.15 * strokes, strokes)
