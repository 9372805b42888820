"""Learning rates over the steps of a run."""

import pytest
import torch
from torch.optim import lr_scheduler

from training.schedules import SCHEDULES, factor

N = 40
ORACLES = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=N),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=N),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_equals_torchs(schedule):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = ORACLES[schedule](optimizer)
    theirs = []
    for _ in range(N):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()

    ours = [factor(schedule, step, N, warm_up=0) for step in range(N)]

    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_evenly_to_the_start_of_the_schedule(schedule):
    ours = [factor(schedule, step, N, warm_up=4) for step in range(N)]

    assert ours[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert ours[4:] == [factor(schedule, step, N - 4, 0) for step in range(N - 4)]


def test_run_shorter_than_its_warm_up_rises_to_its_end():
    assert [factor("linear", step, 3, warm_up=9) for step in range(3)] == pytest.approx(
        [0.1, 0.2, 0.3]
    )
