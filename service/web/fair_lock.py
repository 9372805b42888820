"""A first-come, first-served lock."""

import threading
from collections import deque


class FairLock:
    """A lock that threads acquire in the order in which they requested it.

    It makes threads compute one at a time: threads that compute at once only contend
    for the interpreter, and four of them read pictures at a third of the speed of one.
    With threading.Lock, a thread that releases and requests the lock again would
    usually acquire it before the threads that wait.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._is_held:
                self._is_held = True
                return
            wake_up = threading.Lock()
            wake_up.acquire()
            self._waiting.append(wake_up)
        wake_up.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_held = False
