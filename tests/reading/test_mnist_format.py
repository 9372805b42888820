"""Ink framed as MNIST frames its digits."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from service.reading.mnist_format import SMALL_SIDE, _resize, is_mnist_shaped, to_mnist_format
from service.reading.morphology import dilation, horizontal_runs, label_runs


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


@pytest.mark.parametrize("side", [SMALL_SIDE, SMALL_SIDE + 1])
@pytest.mark.parametrize("resampling", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_small_and_large_ink_is_resized_as_pillow_resizes_it(side, resampling):
    ink = np.random.default_rng(0).random((side, 9), np.float32)

    expected = np.asarray(Image.fromarray(ink).resize((7, 20), resampling))
    np.testing.assert_allclose(_resize(ink, (20, 7), resampling), expected.clip(0, 1), atol=1e-6)


def drawn_strokes(strokes: str, pen: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines "x,y x,y ... / x,y ...", cropped: their ink and its mask."""
    picture = Image.new("L", (120, 180))
    for stroke in strokes.split("/"):
        points = [tuple(10 + int(at) for at in point.split(",")) for point in stroke.split()]
        ImageDraw.Draw(picture).line(points, fill=255, width=pen, joint="curve")
    mask = np.asarray(picture.crop(picture.getbbox())) > 127
    return mask.astype(np.float32), mask


def components_and_holes(mask: np.ndarray) -> tuple[int, int]:
    """Count 8-connected components, and holes: all components of the rest but one."""

    def count(pixels: np.ndarray) -> int:
        return int(label_runs(horizontal_runs(pixels), pixels.shape[1]).max()) + 1

    # grown by a third of a pixel, the ink parts background that touches by corners only
    grown = dilation(np.pad(mask, 1).repeat(3, 0).repeat(3, 1), corners=False)
    return count(mask), count(~grown) - 1


SMALL_OPENINGS = {
    "a 9 with a small head": "60,0 42,6 36,18 42,30 60,36 74,30 78,18 74,6 60,0 / 78,18 60,160",
    "a 4 with a small triangle": "70,0 30,70 95,70 / 70,0 66,160",
    "a 6 with a small bowl": "60,0 36,90 32,140 / 34,124 52,120 66,130 70,142 62,156 44,160 32,140",
    "a 5 with a narrow gap": "90,0 44,0 38,64 66,58 88,84 88,130 66,160 42,146 38,96",
    "an 8 with a small head": "50,0 36,10 34,24 50,36 66,24 64,10 50,0"
    " / 50,36 22,70 22,120 50,160 78,120 78,70 50,32",
}


@pytest.mark.parametrize("pen", [1, 3, 6])
@pytest.mark.parametrize("name", SMALL_OPENINGS)
def test_components_and_holes_of_thin_strokes_are_kept(name, pen):
    ink, mask = drawn_strokes(SMALL_OPENINGS[name], pen)

    image = to_mnist_format(ink, mask)

    large = np.asarray(Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC))
    found = [components_and_holes(large > level) for level in (128, 160, 190, 220)]
    assert components_and_holes(mask) in found


def test_the_thin_middle_of_a_thick_digit_is_kept():
    dumbbell = np.zeros((120, 90), bool)
    dumbbell[:50] = dumbbell[70:] = True
    dumbbell[50:70, 40:48] = True

    image = to_mnist_format(dumbbell.astype(np.float32), dumbbell)

    assert components_and_holes(image > 50) == (1, 0)


@pytest.mark.parametrize("pen", range(2, 24, 3))
def test_the_box_has_20_pixels_however_thick_the_strokes_are(pen):
    picture = Image.new("L", (80, 100))
    ImageDraw.Draw(picture).rectangle((0, 0, 79, 99), outline=255, width=pen)
    ink = np.asarray(picture, np.float32) / 255

    image = to_mnist_format(ink, ink > 0.5)

    rows = np.flatnonzero(image.any(1))
    assert np.ptp(rows) + 1 in (19, 20)
