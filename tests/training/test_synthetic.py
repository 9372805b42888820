"""Synthetic digits."""

import numpy as np

from training.data.synthetic import RARE_SHAPES, SHAPES, TILED, draw_digits, draw_rare_digits


def test_synthetic_digits_are_the_same_every_time():
    assert draw_digits(40, 10).sha256() == draw_digits(40, 10).sha256()


def test_classes_are_equally_frequent_and_no_two_digits_are_equal(drawn):
    assert np.bincount(drawn.train.labels).tolist() == [60] * 10
    images = np.concatenate([drawn.train.images, drawn.test.images])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_digits_that_are_added_are_the_same_every_time_and_of_every_class():
    for digits, again in zip(draw_rare_digits(200), draw_rare_digits(200), strict=True):
        np.testing.assert_array_equal(digits.images, again.images)
        np.testing.assert_array_equal(digits.labels, again.labels)
        assert set(digits.labels) == set(range(10))


def test_a_part_of_the_added_digits_is_dark_on_white_tiles():
    digits, tiled = (part.images > 127 for part in draw_rare_digits(200))

    assert len(tiled) == round(TILED * (len(digits) + len(tiled)))
    assert np.median(tiled.mean((1, 2))) > 0.3 > np.median(digits.mean((1, 2)))


def test_added_digits_are_as_frequent_as_their_rare_shapes():
    shares = np.bincount(draw_rare_digits(1000)[0].labels) / 700

    of_digit = np.bincount([int(shape[0]) for shape in RARE_SHAPES]) / len(RARE_SHAPES)
    assert abs(shares - of_digit).max() < 0.05


def test_every_digit_has_common_and_rare_shapes():
    assert {s[0] for s in SHAPES} == {s[0] for s in RARE_SHAPES} == set("0123456789")


def test_added_digits_are_no_digits_of_the_synthetic_data_set(drawn):
    known = {image.tobytes() for image in drawn.train.images}

    assert not any(image.tobytes() in known for image in draw_rare_digits(200)[0].images)
