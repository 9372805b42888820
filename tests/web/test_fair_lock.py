"""The lock that threads acquire in turn."""

import threading

import pytest

from service.web.fair_lock import MAX_AHEAD, FairLock
from tests.conftest import wait_until


def test_threads_acquire_the_lock_in_the_order_in_which_they_requested_it():
    lock, order, started = FairLock(), [], []

    def work(name: int) -> None:
        for _ in range(2):
            with lock:
                order.append(name)
                # hold the lock until all other threads have requested it
                wait_until(lambda: len(lock._waiting) == len(threads) - 1 or done)

    done = False
    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    with lock:
        for thread in threads:
            thread.start()
            started.append(thread)
            wait_until(lambda: len(lock._waiting) == len(started))
    wait_until(lambda: len(order) >= 4)
    done = True
    for thread in threads:
        thread.join()

    assert order[:4] == [0, 1, 2, 0]


def test_an_error_releases_the_lock():
    lock = FairLock()
    for _ in range(2):
        with pytest.raises(ValueError, match="held"), lock:
            raise ValueError("held")


def test_threads_ahead_come_before_others_which_do_not_wait_forever():
    lock, order, started = FairLock(), [], []

    def work(name: str) -> None:
        with lock.ahead() if name == "ahead" else lock:
            order.append(name)

    threads = [
        threading.Thread(target=work, args=(name,)) for name in ["other"] * 2 + ["ahead"] * 6
    ]
    with lock:
        for thread in threads:
            thread.start()
            started.append(thread)
            wait_until(lambda: len(lock._waiting) + len(lock._urgent) == len(started))
    for thread in threads:
        thread.join()

    assert order == ["ahead"] * MAX_AHEAD + ["other"] + ["ahead"] * 2 + ["other"]
