"""Connection counts that the workers share."""

from math import inf

from service.server.balancing import STALE_AFTER, ConnectionCounts


def test_fewest_connections_are_those_of_another_live_worker():
    counts = ConnectionCounts()
    assert counts.fewest_elsewhere(1, now=100.0) == inf
    counts.publish(1, 5, now=100.0)
    counts.publish(2, 9, now=100.0)
    fewest = [counts.fewest_elsewhere(slot, now=101.0) for slot in (1, 2, 3)]
    assert fewest == [9, 5, 5]

    later = 100.0 + STALE_AFTER + 1
    counts.publish(2, 9, later)

    assert counts.fewest_elsewhere(3, later) == 9
