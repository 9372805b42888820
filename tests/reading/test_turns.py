"""Images of digits that are turned."""

import numpy as np
import pytest

from service.reading.mnist_format import is_mnist_shaped
from service.reading.turns import turned


def upright_stroke() -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    return image


@pytest.mark.parametrize("degrees", [-30, 30])
def test_a_stroke_that_is_turned_leans_to_one_side_and_is_in_mnists_format(degrees):
    image = turned(upright_stroke(), degrees)

    assert is_mnist_shaped(image)
    top, bottom = (np.average(np.arange(28), weights=image[half].sum(0)) for half in HALVES)
    assert (top < bottom) == (degrees > 0)


HALVES = slice(None, 14), slice(14, None)


def test_an_image_without_strokes_stays_as_it_is():
    faint = np.full((28, 28), 20, np.uint8)

    np.testing.assert_array_equal(turned(faint, 30), faint)
