import numpy as np

from training.data.synthetic import draw_digits


def test_synthetic_digits_are_the_same_every_time():
    assert draw_digits(40, 10).sha256() == draw_digits(40, 10).sha256()


def test_classes_are_equally_frequent_and_no_two_digits_are_equal(drawn):
    assert np.bincount(drawn.train.labels).tolist() == [60] * 10
    images = np.concatenate([drawn.train.images, drawn.test.images])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
