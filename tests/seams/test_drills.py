"""The drills of `make drills`, once each: nothing is lost that need not be."""

import pytest

from benchmarks.drills import DRILLS, run


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.__name__)
def test_clients_lose_no_more_than_a_drill_may_cost(drill):
    clients = run(drill)

    assert clients.answered > 100
    assert clients.lost <= DRILLS[drill], clients.causes
