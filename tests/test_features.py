"""The feature maps."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.features import FEATURES, n_features, pixels, stroke_edges, stroke_waves


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


def signs_of_frequencies() -> np.ndarray:
    """(80, 350) signs of ω, by Euler's criterion: i is a square if i^((p-1)/2) = 1."""
    symbols = [1 if pow(i, 215, 431) == 1 else -1 for i in range(1, 430)]
    return np.array([symbols[edge : edge + 350] for edge in range(80)])


def test_waves_of_a_cell_are_cosines_of_its_stroke_edges(drawn):
    images = drawn.test.images[:20]
    cells = stroke_edges(images).reshape(20, 80, 9).transpose(0, 2, 1).astype(float)
    golden_ratio = (1 + np.sqrt(5)) / 2

    phases = 2 * np.pi * golden_ratio * np.arange(350)
    expected = np.cos(cells @ (0.41 * signs_of_frequencies()) + phases)

    waves = stroke_waves(images).reshape(20, 9, 350)
    np.testing.assert_allclose(waves, expected, atol=1e-4)


def test_products_of_waves_are_about_a_gaussian_of_the_distance_of_two_cells(drawn):
    """Rahimi and Recht's claim, of a cell of one digit and the same cell of another."""
    images = drawn.test.images[:60]
    cells = stroke_edges(images).reshape(60, 80, 9)
    waves = stroke_waves(images).reshape(60, 9, 350)
    distance = ((cells[:30] - cells[30:]) ** 2).sum(1)

    products = 2 * (waves[:30] * waves[30:]).mean(-1)

    gaussian = np.exp(-(0.41**2) * distance / 2)
    assert gaussian.std() > 0.15
    assert np.sqrt(((products - gaussian) ** 2).mean()) < 0.1
