"""Digits with their labels, and data sets."""

import numpy as np

from training.data.dataset import DataSet, Digits


def test_labels_become_class_indices_in_the_requested_order():
    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
    digits = Digits(images, np.array([8, 3, 0, 3, 8], np.uint8))

    chosen = digits.of_classes((3, 8))

    assert chosen.labels.tolist() == [1, 0, 0, 1]
    assert chosen.images[:, 0, 0].tolist() == [0, 1, 3, 4]


def test_sum_has_the_rows_of_both_in_order(drawn):
    both = drawn.test + drawn.train

    np.testing.assert_array_equal(both.images[: len(drawn.test)], drawn.test.images)
    np.testing.assert_array_equal(both.labels[len(drawn.test) :], drawn.train.labels)


def test_digest_depends_on_every_pixel_and_label(drawn):
    def changed(part: str) -> str:
        images, labels = drawn.test.images.copy(), drawn.test.labels.copy()
        {"image": images, "label": labels}[part].flat[-1] += 1
        return DataSet("x", drawn.train, Digits(images, labels)).sha256()

    assert len({drawn.sha256(), changed("image"), changed("label")}) == 3
