import math

import numpy as np
import pytest
import torch

from training.descent import SCHEDULES, Parameters, Step, batches, fit, step, xavier
from training.losses import binary_cross_entropy, cross_entropy


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(203, 7, generator=generator)
    return features, (features @ torch.randn(7, 3, generator=generator)).argmax(1)


def fitted(rows, **options) -> Parameters:
    parameters = xavier(7, (3,), seed=1)
    settings = {"learning_rate": 0.5, "batch_size": 16, "epochs": 3, "seed": 1}
    fit(parameters, cross_entropy, *rows, **settings | options)
    return parameters


def test_weights_are_drawn_with_xaviers_variance_and_the_bias_is_zero():
    parameters = xavier(784, (10,), seed=0)

    assert parameters.weight.shape == (784, 10)
    assert parameters.weight.std().item() == pytest.approx(1 / math.sqrt(784), rel=0.03)
    assert abs(parameters.weight.mean().item()) < 0.002
    assert parameters.bias.tolist() == [0.0] * 10


def test_binary_model_has_one_weight_vector():
    parameters = xavier(784, (), seed=0)

    assert parameters.weight.shape == (784,)
    assert parameters.logits(torch.zeros(5, 784)).shape == (5,)


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)])
def test_every_row_is_in_one_batch(generator):
    parts = list(batches(203, 16, generator))

    assert [len(part) for part in parts] == [16] * 12 + [11]
    assert sorted(torch.cat(parts).tolist()) == list(range(203))


def test_batches_without_a_generator_keep_the_order_of_the_rows():
    assert torch.cat(list(batches(20, 6, None))).tolist() == list(range(20))


def test_a_step_is_the_update_rule_and_clears_the_gradients():
    parameters = Parameters(
        torch.tensor([2.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    )

    step(parameters, (3 * parameters.weight + 5 * parameters.bias).sum(), 0.1)

    assert parameters.weight.item() == pytest.approx(2.0 - 0.1 * 3)
    assert parameters.bias.item() == pytest.approx(1.0 - 0.1 * 5)
    assert parameters.weight.grad is None
    assert parameters.bias.grad is None


def test_an_epoch_ends_in_the_weights_of_torchs_sgd(rows):
    features, labels = rows
    start = xavier(7, (3,), seed=1)
    model = torch.nn.Linear(7, 3)
    with torch.no_grad():
        model.weight.copy_(start.weight.T)
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    ours = fitted(rows, epochs=1, seed=None)
    for x, y in zip(features.split(16), labels.split(16), strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    torch.testing.assert_close(ours.weight, model.weight.T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.bias, model.bias, rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(rows):
    first, again, other = (fitted(rows, seed=seed).weight for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_epoch_has_an_order_of_its_own_that_does_not_depend_on_the_others(rows):
    """One epoch more begins with the very steps that there were before."""
    losses = {epochs: [] for epochs in (2, 3)}
    for epochs, seen in losses.items():
        fitted(rows, epochs=epochs, watch=lambda s, seen=seen: seen.append(s.loss))

    assert losses[3][:26] == losses[2]
    orders = {tuple(losses[3][i : i + 13]) for i in (0, 13, 26)}
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.8, 0.8, 0.8, 0.8]), ("linear", [0.8, 0.6, 0.4, 0.2])],
)
def test_schedules_lead_the_rate_from_its_start(schedule, rates, rows):
    steps: list[Step] = []

    fitted(
        rows,
        learning_rate=0.8,
        schedule=schedule,
        batch_size=102,
        epochs=2,
        watch=steps.append,
    )

    assert [s.learning_rate for s in steps] == pytest.approx(rates)
    assert [(s.epoch, s.number, s.ends_epoch) for s in steps] == [
        (1, 1, False),
        (1, 2, True),
        (2, 3, False),
        (2, 4, True),
    ]
    assert set(SCHEDULES) == {"constant", "linear"}


def test_binary_regression_recovers_the_coefficients_its_data_came_from():
    """The article's example: age, income and education decide between two classes."""
    generator = np.random.default_rng(7)
    n = 20_000
    age = generator.normal(45, 12, n)
    income = generator.normal(50_000, 15_000, n)
    education = generator.integers(8, 21, n)
    table = np.stack([age, income, education], 1)
    features = (table - table.mean(0)) / table.std(0)
    coefficients, intercept = np.array([1.5, -2.0, 0.7]), 0.4
    p = 1 / (1 + np.exp(-(features @ coefficients + intercept)))
    labels = generator.random(n) < p
    parameters = xavier(3, (), seed=0)

    fit(
        parameters,
        binary_cross_entropy,
        torch.from_numpy(features.astype(np.float32)),
        torch.from_numpy(labels.astype(np.int64)),
        learning_rate=0.5,
        batch_size=64,
        epochs=10,
        schedule="linear",
        seed=0,
    )

    # the standard error of a maximum-likelihood fit of 20,000 rows is about 0.03
    np.testing.assert_allclose(parameters.weight.detach(), coefficients, atol=0.1)
    assert parameters.bias.item() == pytest.approx(intercept, abs=0.1)
