"""Each update rule, held to torch.optim's step by step."""

import pytest
import torch
from torch import optim

from training.descent import step
from training.gradients import GRADIENTS
from training.rules import RULES
from training.runs.state import begin

N_STEPS = 200
CASES = [  # the rule, its rate, its decay; torch's optimizer and what it is given
    ("descent", 0.5, 0.0, optim.SGD, {}),
    ("descent", 0.5, 0.1, optim.SGD, {}),
    ("momentum", 0.05, 0.0, optim.SGD, {"momentum": 0.9}),
    ("nesterov", 0.05, 0.0, optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ("adam", 0.01, 0.0, optim.Adam, {}),
    ("adam", 0.01, 0.1, optim.AdamW, {}),
]
# over 200 steps the rounding of each is carried on by the next
TOLERANCES = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("rule", "rate", "decay", "kind", "options"), CASES)
def test_rule_is_torchs_step_by_step(rule, rate, decay, kind, options, dtype):
    generator = torch.Generator().manual_seed(5)
    phi = torch.randn(N_STEPS, 16, 8, generator=generator, dtype=dtype)
    phi[:, :, -1] = 1
    labels = torch.randint(3, (N_STEPS, 16), generator=generator)
    run = begin(torch.randn(3, 8, generator=generator, dtype=dtype), rule)
    gradient = GRADIENTS["autograd"][False]
    weight, bias = (run.theta[:, s].clone().requires_grad_() for s in (slice(7), 7))
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = kind(groups, lr=rate, weight_decay=decay, **options)

    for x, y in zip(phi, labels, strict=True):
        step(run, gradient(run.theta, x, y)[1], rate, rule, decay)
        optimizer.zero_grad()
        logits = x[:, :-1] @ weight.T + bias
        torch.nn.functional.cross_entropy(logits, y).backward()
        optimizer.step()

        theirs = torch.column_stack([weight, bias]).detach()
        torch.testing.assert_close(run.theta, theirs, rtol=0, atol=TOLERANCES[dtype])

    assert run.step == N_STEPS


def test_every_rule_is_held_to_torchs():
    assert {case[0] for case in CASES} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_decay_shrinks_the_weights_apart_from_the_rule_and_spares_the_biases(rule):
    run = begin(torch.ones(2, 4), rule)

    step(run, torch.zeros(2, 4), 0.5, rule, 0.1)

    torch.testing.assert_close(run.theta[:, :-1], torch.full((2, 3), 0.95))
    assert run.theta[:, -1].tolist() == [1.0, 1.0]
