"""The loop of gradient descent."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.descent import WINDOW, State, Step, batches, fit, start, xavier
from training.design.rows import Rows
from training.gradients import Gradient, by_autograd, gradients_of
from training.losses import binary_cross_entropy, cross_entropy
from training.recipes import PIXELS
from training.rules import RULES

RECIPE = replace(PIXELS, batch_size=16, epochs=3, schedule="constant")


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(203, 7, generator=generator)
    labels = (features @ torch.randn(7, 3, generator=generator)).argmax(1)
    return Rows(torch.hstack([features, torch.ones(203, 1)]), labels)


def over(rows: Rows, gradient: Gradient):
    """Bind the rows to a gradient, as the job does."""
    return lambda theta, batch: gradient(theta, *rows.batch(batch))


def fitted(rows: Rows, seed: int = 1, watch=lambda step: None, **changes) -> State:
    recipe = replace(RECIPE, **changes)
    state = start(xavier(7, 3, seed=1), recipe.rule)
    gradient = over(rows, by_autograd(cross_entropy))
    fit(state, gradient, len(rows), recipe, seed, rows.block, watch)
    return state


def test_weights_are_drawn_with_xaviers_variance_and_the_biases_are_zero():
    theta = xavier(784, 10, seed=0)

    assert theta.shape == (10, 785)
    assert theta[:, :-1].std().item() == pytest.approx(1 / math.sqrt(784), rel=0.03)
    assert abs(theta[:, :-1].mean().item()) < 0.002
    assert theta[:, -1].tolist() == [0.0] * 10


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)])
def test_every_row_is_in_one_batch(generator):
    parts = [torch.arange(203)[part] for part in batches(203, 16, generator)]

    assert [len(part) for part in parts] == [16] * 12 + [11]
    assert sorted(torch.cat(parts).tolist()) == list(range(203))


def test_batches_without_a_generator_keep_the_order_of_the_rows():
    assert list(batches(14, 6, None)) == [slice(0, 6), slice(6, 12), slice(12, 14)]


@pytest.mark.parametrize(("n", "block"), [(1000, 10), (1000, 33), (1000, 999), (7, 2)])
def test_rows_shuffled_in_blocks_are_complete_and_close_together(n, block):
    generator = torch.Generator().manual_seed(0)

    parts = list(batches(n, 16, generator, block))

    assert [len(part) for part in parts[:-1]] == [16] * (n // 16)
    order = torch.cat(parts)
    assert sorted(order.tolist()) == list(range(n))
    window = order[: WINDOW * block]
    assert len((window // block).unique()) <= WINDOW
    assert order.tolist() != sorted(order.tolist())


def test_run_over_shuffled_blocks_learns_as_well_as_one_over_shuffled_rows(rows):
    in_blocks = fitted(replace(rows, block=5), epochs=20).theta
    by_rows = fitted(rows, epochs=20).theta

    phi, labels = rows.batch(slice(0, 203))
    for theta in (in_blocks, by_rows):
        assert ((theta @ phi.T).argmax(0) == labels).float().mean() > 0.97
    assert not torch.equal(in_blocks, by_rows)


def test_epoch_ends_with_the_weights_of_torchs_sgd(rows):
    start = xavier(7, 3, seed=1)
    model = torch.nn.Linear(7, 3)
    with torch.no_grad():
        model.weight.copy_(start[:, :-1])
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    ours = fitted(rows, epochs=1, shuffle=False).theta
    features = rows.values[:, :-1]
    for x, y in zip(features.split(16), rows.labels.split(16), strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    theirs = torch.column_stack([model.weight, model.bias]).detach()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_same_seed_makes_the_same_bits_and_another_seed_makes_others(rows):
    first, again, other = (fitted(rows, seed=seed).theta for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", gradients_of(10))
def test_loss_of_overflowed_weights_is_nan(name, rows):
    """And no warnings, which pytest would raise."""
    losses = []
    state = start(xavier(7, 3, seed=1).fill_(math.inf), "descent")
    gradient = over(rows, gradients_of(10)[name])

    fit(state, gradient, 203, RECIPE, 1, watch=lambda step: losses.append(step.loss))

    assert math.isnan(losses[0])


def test_every_epoch_has_its_own_order_whatever_the_number_of_epochs(rows):
    """A run of one more epoch starts with the same steps."""
    losses = {epochs: [] for epochs in (2, 3)}
    for epochs, seen in losses.items():
        fitted(rows, epochs=epochs, watch=lambda s, seen=seen: seen.append(s.loss))

    assert losses[3][:26] == losses[2]
    orders = {tuple(losses[3][i : i + 13]) for i in (0, 13, 26)}
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("schedule", "warm_up", "rates"),
    [
        ("constant", 0, [0.8, 0.8, 0.8, 0.8]),
        ("linear", 0, [0.8, 0.6, 0.4, 0.2]),
        ("linear", 2, [0.8 / 3, 1.6 / 3, 0.8, 0.4]),
    ],
)
def test_learning_rate_follows_the_schedule(schedule, warm_up, rates, rows):
    steps: list[Step] = []

    fitted(
        rows,
        learning_rate=0.8,
        schedule=schedule,
        warm_up=warm_up,
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


def test_average_is_the_mean_of_the_last_half_of_the_steps(rows):
    thetas = []
    state = start(xavier(7, 3, seed=1), "descent")
    gradient = over(rows, by_autograd(cross_entropy))
    recipe = replace(RECIPE, keep="average")

    fit(state, gradient, 203, recipe, 1, watch=lambda _: thetas.append(state.theta.clone()))

    assert len(thetas) == 39
    torch.testing.assert_close(state.mean, torch.stack(thetas[19:]).mean(0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stop", [1, 13, 20, 38])
def test_run_stopped_at_any_step_continues_to_the_same_bits(rule, stop, rows):
    changes = {"rule": rule, "learning_rate": 0.1, "keep": "average", "warm_up": 5}
    recipe = replace(RECIPE, **changes)
    state = start(xavier(7, 3, seed=1), rule)
    gradient = over(rows, by_autograd(cross_entropy))

    def halt(step: Step) -> None:
        if step.number == stop:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(state, gradient, 203, recipe, 1, watch=halt)
    fit(state, gradient, 203, recipe, 1)

    whole = fitted(rows, **changes)
    assert torch.equal(state.theta, whole.theta)
    assert torch.equal(state.mean, whole.mean)
    assert state.step == whole.step == 39


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
    rows = Rows(
        torch.from_numpy(np.column_stack([features, np.ones(n)]).astype(np.float32)),
        torch.from_numpy(labels.astype(np.int64)),
    )
    recipe = replace(PIXELS, epochs=10)
    state = start(xavier(3, 1, seed=0), recipe.rule)

    fit(state, over(rows, by_autograd(binary_cross_entropy)), n, recipe, seed=0)

    # the standard error of a maximum-likelihood fit of 20,000 rows is about 0.03
    np.testing.assert_allclose(state.theta[0], [*coefficients, intercept], atol=0.1)
