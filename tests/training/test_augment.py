import numpy as np
import pytest
import torch

from training.design.augment import COPIES, Jitter, jittered

STILL = Jitter(0, 0, 0, (1, 0, 0, 0))


def test_copies_are_drawn_from_the_generator_alone(drawn):
    def copy(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return jittered(drawn.train.images[:20], COPIES[0], generator)

    np.testing.assert_array_equal(copy(1), copy(1))
    assert (copy(1) != copy(2)).any()


@pytest.mark.parametrize("jitter", COPIES)
def test_copies_are_images_with_about_as_much_ink(jitter, drawn):
    images = drawn.train.images[:200]

    copies = jittered(images, jitter, torch.Generator().manual_seed(0))

    assert copies.shape == images.shape
    assert copies.dtype == np.uint8
    ratio = copies.astype(float).sum((1, 2)) / images.astype(float).sum((1, 2))
    assert 0.6 < np.median(ratio) < 1.6
    assert ratio.min() > 0.1


@pytest.mark.parametrize(
    ("pen", "sign"), [((0, 1, 0, 0), 1), ((0, 0, 1, 0), -1), ((1, 0, 0, 0), 0)]
)
def test_pens_are_thicker_thinner_or_the_same(pen, sign, drawn):
    images = drawn.train.images[:100]
    still = jittered(images, STILL, torch.Generator().manual_seed(0))
    other = jittered(images, Jitter(0, 0, 0, pen), torch.Generator().manual_seed(0))

    change = other.astype(float).sum() - still.astype(float).sum()
    assert np.sign(change) == sign
