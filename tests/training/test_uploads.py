"""Copies of digits that pass through the reading of pictures."""

import numpy as np

from service.images import read_levels
from training.data.dataset import Digits
from training.design.augment import AUGMENTATIONS
from training.design.uploads import as_uploads


def test_uploads_are_the_first_digits_and_their_copies_with_their_labels(drawn):
    some = drawn.train.rows(0, 20)

    uploads = as_uploads(some)

    np.testing.assert_array_equal(uploads.images[:20], some.images)
    # a few cluttered copies may be refused
    assert 0.9 < len(uploads) / (20 * (1 + len(AUGMENTATIONS))) <= 1
    np.testing.assert_array_equal(np.unique(uploads.labels), np.unique(some.labels))


def test_copies_are_images_that_the_reading_leaves_as_they_are(drawn):
    uploads = as_uploads(drawn.train.rows(0, 20))

    same = [np.array_equal(read_levels(image), image) for image in uploads.images[20:]]
    assert np.mean(same) > 0.9


def test_refused_copies_are_left_out_and_labels_stay_with_their_images(drawn):
    one = drawn.train.rows(0, 1)
    other = (int(one.labels[0]) + 1) % 10
    blank = Digits(np.zeros((1, 28, 28), np.uint8), np.array([other], np.uint8))

    uploads = as_uploads(blank + one)

    assert uploads.labels[:2].tolist() == [other, one.labels[0]]
    assert not uploads.images[0].any()
    # every copy of the blank image is refused
    assert len(uploads) > 2
    assert set(uploads.labels[2:]) == {one.labels[0]}
    assert all(image.any() for image in uploads.images[1:])
