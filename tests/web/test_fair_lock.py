import threading

from service.web.fair_lock import Turns
from tests.conftest import wait_until


def test_threads_take_turns_in_the_order_in_which_they_came():
    turns, order, waiting = Turns(), [], []

    def work(name: int) -> None:
        for _ in range(2):
            with turns:
                order.append(name)
                # so that it is not over before all others have asked for a turn
                wait_until(lambda: len(turns._waiting) == len(threads) - 1 or done)

    done = False
    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    with turns:
        for thread in threads:
            thread.start()
            waiting.append(thread)
            wait_until(lambda: len(turns._waiting) == len(waiting))
    wait_until(lambda: len(order) >= 4)
    done = True
    for thread in threads:
        thread.join()

    assert order[:4] == [0, 1, 2, 0]


def test_turn_ends_with_an_error_too():
    turns = Turns()
    for _ in range(2):
        try:
            with turns:
                raise ValueError
        except ValueError:
            pass
    with turns:
        pass
