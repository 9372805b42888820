from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.features import FEATURES, n_features, pixels


def test_pixels_are_the_grey_levels_row_by_row_from_0_to_1():
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 0, 1] = 255
    images[1, 1, 0] = 51

    features = pixels(images)

    assert features.shape == (2, 784)
    assert not features[0].any()
    assert features[1, 1] == 1
    assert features[1, 28] == np.float32(0.2)


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_map_returns_float32_of_its_declared_width(name):
    features = FEATURES[name](np.full((3, 28, 28), 7, np.uint8))

    assert features.dtype == np.float32
    assert features.shape == (3, n_features(name))


@pytest.mark.parametrize("name", FEATURES)
def test_features_of_an_image_do_not_depend_on_its_batch(name, drawn):
    images = drawn.test.images[:30]

    alone = np.concatenate([FEATURES[name](image[None]) for image in images])

    np.testing.assert_allclose(FEATURES[name](images), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_the_same_when_threads_compute_at_once(name, drawn):
    batches = [drawn.test.images[i : i + 1 + i % 20] for i in range(100)]
    expected = [FEATURES[name](batch) for batch in batches]

    with ThreadPoolExecutor(4) as threads:
        computed = list(threads.map(FEATURES[name], batches * 4))

    for i, features in enumerate(computed):
        np.testing.assert_array_equal(features, expected[i % 100])
