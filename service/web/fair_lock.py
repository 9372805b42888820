"""A lock that is handed on in order, and sooner to single pictures."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

MAX_AHEAD = 4  # threads that acquire the lock ahead of one that has waited longer


class FairLock:
    """A lock that threads acquire in the order in which they requested it.

    It makes threads compute one at a time: threads that compute at once only contend
    for the interpreter, and four of them read pictures at a third of the speed of one.
    With threading.Lock, a thread that releases and requests the lock again would
    usually acquire it before the threads that wait.

    `with lock.ahead()` acquires it before the others: one thread reads the single pictures
    of many clients, and would get the turns of one form.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_held = False
        self._waiting: deque[threading.Lock] = deque()
        self._urgent: deque[threading.Lock] = deque()
        self._n_ahead = 0  # urgent threads since one that waits acquired the lock

    def __enter__(self) -> None:
        self._acquire(self._waiting)

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Hold the lock, and acquire it before threads that wait in order."""
        self._acquire(self._urgent)
        try:
            yield
        finally:
            self.__exit__()

    def _acquire(self, queue: deque[threading.Lock]) -> None:
        """Acquire the lock at once if it is free, else at the end of a queue."""
        with self._mutex:
            if not self._is_held:
                self._is_held = True
                return
            wake_up = threading.Lock()
            wake_up.acquire()
            queue.append(wake_up)
        wake_up.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            is_urgent = self._urgent and (self._n_ahead < MAX_AHEAD or not self._waiting)
            queue = self._urgent if is_urgent else self._waiting
            self._n_ahead = self._n_ahead + 1 if is_urgent and self._waiting else 0
            if queue:
                queue.popleft().release()
            else:
                self._is_held = False
