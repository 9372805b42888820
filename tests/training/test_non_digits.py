"""Drawings that are no digits."""

import numpy as np
import pytest

from training.data.dataset import Digits
from training.data.glyphs import foreign, latin
from training.data.non_digits import BARS, KINDS, draw_non_digits
from training.data.shapes import FIGURES, LETTERS, SIGNS
from training.data.synthetic import parsed

LIKE_DIGITS = set("OoIilZzSsbBgqD0123456789")


def test_non_digits_are_the_same_every_time(drawn):
    first, again = (draw_non_digits(100, drawn.train) for _ in range(2))

    np.testing.assert_array_equal(first.images, again.images)


def test_upright_bars_among_the_non_digits_are_known_as_digits(drawn):
    pictures = draw_non_digits(200, drawn.train)

    bars = pictures.images[pictures.labels == 1]

    assert len(bars) == BARS * 200
    assert set(pictures.labels.tolist()) == {0, 1}
    assert all(np.ptp(np.argwhere(bar > 127)[:, 1]) < 10 for bar in bars)


@pytest.mark.parametrize("drawing", KINDS)
def test_every_kind_fills_the_frame_of_a_digit(drawing, drawn):
    rng = np.random.default_rng(1)
    drawings = (drawing(rng, drawn.train) for _ in range(60))

    images = [image for image in drawings if image is not None]

    assert len(images) > 10
    assert len({image.tobytes() for image in images}) > len(images) / 2
    for image in images:
        assert (image.shape, image.dtype) == ((28, 28), np.uint8)
        assert 15 <= max(np.ptp(np.argwhere(image), axis=0)) + 1 <= 28


def test_letters_that_have_the_shape_of_a_digit_are_in_neither_class():
    letters = {line[0] for line in LETTERS} | {character for character, _ in latin()}

    assert not letters & LIKE_DIGITS
    assert {character for character, _ in latin()} >= set("ACEFGHJKLMNPQRTUVWXYadefhjkmnprtuvwxy")
    assert {line[0] for line in LETTERS} >= set("ACEFGHJKLMNPQRTUVWXYadefhjkmnprtuvwxy")


def test_characters_of_other_scripts_are_thousands_and_no_digits():
    characters = {character for character, _ in foreign()}

    assert len(characters) > 3000
    assert not any(character.isnumeric() for character in characters)


def test_every_shape_has_strokes_of_two_points_or_more():
    for line in (*LETTERS, *SIGNS, *FIGURES):
        strokes, _ = parsed(line)
        assert all(len(stroke) > 1 for stroke in strokes), line


def test_digits_of_which_none_may_be_turned_or_halved_are_enough(drawn):
    ones = drawn.train.of_classes((1, 8))
    ones = Digits(ones.images, np.ones(len(ones), np.uint8))

    assert len(draw_non_digits(200, ones)) == 200
