"""Update rules compared with torch.optim, step by step."""

import dataclasses

import pytest
import torch
from torch import optim

from training.descent import start, step
from training.gradients import by_autograd
from training.losses import cross_entropy
from training.recipes import PIXELS
from training.rules import RULES

N_STEPS = 200
CASES = [  # rule, learning rate, weight decay; torch's optimizer and its options
    ("descent", 0.5, 0.0, optim.SGD, {}),
    ("descent", 0.5, 0.1, optim.SGD, {}),
    ("momentum", 0.05, 0.0, optim.SGD, {"momentum": 0.9}),
    ("nesterov", 0.05, 0.0, optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ("adam", 0.01, 0.0, optim.Adam, {}),
    ("adam", 0.01, 0.1, optim.AdamW, {}),
]
# the rounding errors of 200 steps add up
TOLERANCES = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("rule", "rate", "decay", "kind", "options"), CASES)
def test_rule_equals_torchs_step_by_step(rule, rate, decay, kind, options, dtype):
    generator = torch.Generator().manual_seed(5)
    phi = torch.randn(N_STEPS, 16, 8, generator=generator, dtype=dtype)
    phi[:, :, -1] = 1
    labels = torch.randint(3, (N_STEPS, 16), generator=generator)
    state = start(torch.randn(3, 8, generator=generator, dtype=dtype), rule)
    recipe = dataclasses.replace(PIXELS, rule=rule, weight_decay=decay)
    gradient = by_autograd(cross_entropy)
    weight, bias = (state.theta[:, s].clone().requires_grad_() for s in (slice(7), 7))
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = kind(groups, lr=rate, weight_decay=decay, **options)

    for x, y in zip(phi, labels, strict=True):
        step(state, gradient(state.theta, x, y)[1], rate, recipe)
        optimizer.zero_grad()
        logits = x[:, :-1] @ weight.T + bias
        torch.nn.functional.cross_entropy(logits, y).backward()
        optimizer.step()

        theirs = torch.column_stack([weight, bias]).detach()
        assert (state.theta - theirs).abs().max() <= TOLERANCES[dtype]

    assert state.step == N_STEPS


def test_every_rule_is_compared_with_torchs():
    assert {case[0] for case in CASES} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_decay_shrinks_the_weights_and_not_the_biases_under_every_rule(rule):
    state = start(torch.ones(2, 4), rule)
    recipe = dataclasses.replace(PIXELS, rule=rule, weight_decay=0.1)

    step(state, torch.zeros(2, 4), 0.5, recipe)

    torch.testing.assert_close(state.theta[:, :-1], torch.full((2, 3), 0.95))
    assert state.theta[:, -1].tolist() == [1.0, 1.0]
