"""The drills of `make drills`, once each: clients lose no more than is allowed."""

import pytest

from benchmarks.drills import DRILLS, N_CLIENTS, idle, run, swap

LONG = (idle, swap)  # seconds each


@pytest.mark.parametrize(
    "drill",
    [pytest.param(d, marks=[pytest.mark.slow] if d in LONG else []) for d in DRILLS],
    ids=lambda drill: drill.__name__,
)
def test_clients_lose_no_more_requests_than_the_drill_allows(drill):
    clients = run(drill)

    assert clients.answered >= N_CLIENTS
    assert clients.lost <= DRILLS[drill], clients.causes
