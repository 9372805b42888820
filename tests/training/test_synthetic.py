import numpy as np

from training.data.synthetic import draw_digits


def test_the_same_digits_are_drawn_every_time():
    assert draw_digits(40, 10).sha256() == draw_digits(40, 10).sha256()


def test_every_class_is_drawn_as_often_and_no_two_digits_are_alike(drawn):
    assert np.bincount(drawn.train.labels).tolist() == [60] * 10
    images = np.concatenate([drawn.train.images, drawn.test.images])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
