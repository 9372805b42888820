"""The binary regression that a picture is a digit."""

import dataclasses

import numpy as np
import pytest
import torch

from service.classifier import Classifier
from service.features import pixels
from training.data.non_digits import draw_non_digits
from training.design.design_matrix import design_matrix
from training.gradient_check import TOLERANCE, worst
from training.gradients import by_autograd
from training.losses import detection_cross_entropy
from training.recipes import RECIPES
from training.results.evaluation import digit_probabilities, refused
from training.runs.detection import (
    INT8_MAX,
    PRIOR,
    fit_detector,
    mixed,
    to_detector,
    with_threshold,
)
from training.runs.progress import Diverged

RECIPE = dataclasses.replace(RECIPES["pixels"], epochs=10)


@pytest.fixture(scope="module")
def rows(drawn, tmp_path_factory):
    cache = tmp_path_factory.mktemp("phi")
    digits = design_matrix([drawn.train], "pixels", 0, cache)
    others = draw_non_digits(len(drawn.train), drawn.train)
    return digits.centred(), design_matrix([others], "pixels", 0, cache)


def test_gradient_of_detection_is_its_central_difference():
    generator = torch.Generator().manual_seed(6)
    theta, phi = (torch.randn(n, 20, generator=generator).double() for n in (5, 64))
    labels = torch.randint(8, (64,), generator=generator)

    check = worst(by_autograd(detection_cross_entropy), theta, phi, labels, 100, generator)

    assert check.error <= TOLERANCE


def test_mixture_has_as_many_digits_as_non_digits_with_one_centre(rows):
    digits, others = rows
    mixture = mixed(digits, others, range(0), 0, seed=3)

    phi, is_digit = mixture.batch(torch.arange(len(mixture)))

    n = len(others)
    assert is_digit.tolist() == others.labels.tolist() + [1] * n
    torch.testing.assert_close(phi[:n], others.batch(slice(None))[0] - digits.centre)
    torch.testing.assert_close(phi[n:], digits.batch(mixture.chosen)[0])


def test_drawn_digits_are_chosen_first_and_those_on_tiles_never(rows):
    digits, others = rows
    few = dataclasses.replace(others, values=others.values[:400], labels=others.labels[:400])

    chosen = mixed(digits, few, range(500, 600), 30, seed=3).chosen

    assert len(chosen) == len(set(chosen.tolist())) == 400
    assert chosen[:30].tolist() == list(range(500, 530))
    assert not set(chosen.tolist()) & set(range(530, 600))


def test_a_fitted_detector_separates_digits_from_non_digits(rows, drawn):
    digits, others = rows
    weight = np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)
    classifier = Classifier(weight, np.zeros(10, np.float32), tuple(range(10)), "pixels")

    detector = fit_detector(classifier, mixed(digits, others, range(0), 0, seed=3), RECIPE, 0)

    classifier = dataclasses.replace(classifier, detector=detector)
    is_digit = digit_probabilities(classifier, drawn.test.images)
    others = draw_non_digits(400, drawn.test).images
    assert np.median(is_digit) > 0.9 > 0.5 > np.median(digit_probabilities(classifier, others))
    again = fit_detector(classifier, mixed(digits, rows[1], range(0), 0, seed=3), RECIPE, 0)
    np.testing.assert_array_equal(again.weight, detector.weight)


def test_a_descent_that_diverges_is_reported(rows):
    digits, others = rows
    classifier = Classifier(
        np.zeros((784, 10), np.float32), np.zeros(10, np.float32), tuple(range(10)), "pixels"
    )
    recipe = dataclasses.replace(RECIPE, rule="momentum", learning_rate=3e38, epochs=2)

    with pytest.raises(Diverged, match="P\\(digit\\)"):
        fit_detector(classifier, mixed(digits, others, range(0), 0, seed=3), recipe, 0)


def test_folding_a_centre_and_the_prior_adds_the_priors_log_odds(drawn):
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(10, 785, generator=generator) / 28
    centre = torch.rand(785, generator=generator)
    centre[-1] = 0
    classifier = Classifier(
        np.zeros((784, 10), np.float32), np.zeros(10, np.float32), tuple(range(10)), "pixels"
    )

    detector = to_detector(theta, centre)

    assert detector.weight.dtype == np.int8
    assert (abs(detector.weight).max(axis=1) == INT8_MAX).all()
    images = drawn.test.images[:50]
    phi = torch.from_numpy(pixels(images))
    a = (phi - centre[:-1]) @ theta[0, :-1] + theta[0, -1]
    expected = (a + np.log(PRIOR / (1 - PRIOR))).sigmoid()
    is_digit = digit_probabilities(dataclasses.replace(classifier, detector=detector), images)
    np.testing.assert_allclose(is_digit, expected, atol=0.02)


def test_threshold_refuses_one_digit_in_a_thousand(drawn, classifier):
    detector = to_detector(torch.ones(10, 785), torch.zeros(785))
    is_digit = np.random.default_rng(0).permutation(np.linspace(0.01, 1, 6000))

    threshold = with_threshold(detector, is_digit).threshold

    assert 0 < (is_digit < threshold).sum() <= 6


def test_a_classifier_without_detector_refuses_nothing(classifier, drawn):
    assert not refused(dataclasses.replace(classifier, detector=None), drawn.test.images).any()
