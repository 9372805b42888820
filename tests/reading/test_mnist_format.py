import numpy as np
import pytest

from service.reading.mnist_format import is_mnist_shaped, to_mnist_format


def bar(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle of ink, and its mask."""
    return np.ones((height, width), np.float32), np.ones((height, width), bool)


def test_every_digit_of_the_data_is_mnist_shaped(digits):
    for images in (digits.train.images, digits.test.images):
        misshapen = [i for i, im in enumerate(images) if not is_mnist_shaped(im)]
        assert misshapen == []


def test_other_images_are_not_mnist_shaped(drawn):
    digit = drawn.test.images[0]

    assert is_mnist_shaped(digit)
    assert not is_mnist_shaped(255 - digit)
    assert not is_mnist_shaped(np.roll(digit, 2, axis=0))
    assert not is_mnist_shaped(digit // 2)
    assert not is_mnist_shaped(np.pad(digit, 1))
    assert not is_mnist_shaped(digit * 0)


@pytest.mark.parametrize("shape", [(10, 3), (40, 12), (200, 40), (3, 17), (8, 1)])
def test_ink_in_mnist_format_has_a_box_of_20_pixels_and_is_mnist_shaped(shape):
    image = to_mnist_format(*bar(*shape))

    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
    assert is_mnist_shaped(image)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 9, 15, 30])
def test_strokes_are_brought_near_mnists_width(width):
    """A cross of strokes so wide in a box of 100 pixels."""
    mask = np.zeros((100, 100), bool)
    mask[50 - width // 2 : 50 - width // 2 + width] = True
    mask |= mask.T

    image = to_mnist_format(mask.astype(np.float32), mask)

    drawn = image[6].sum() / 255  # across the upright stroke
    assert 1.8 <= drawn <= 6.1
