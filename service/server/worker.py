"""gunicorn worker that runs the event loop."""

import os
import resource
import signal
import sys
from collections.abc import Callable

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from service.server import flags
from service.server.balancing import SLOTS, ConnectionCounts
from service.server.connection import ReceiveLimits
from service.server.event_loop import EventLoop
from service.server.http import ErrorReply, plain_error
from service.server.logs import is_not_probe
from service.server.memory import keep_freed_memory, return_freed_memory
from service.server.metrics import Metrics
from service.settings import DEFAULT_LIMITS

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
MAX_OPEN_FILES = 65_536
OTHER_FILES = 64  # descriptors reserved for what is not a connection
# Seconds that a thread keeps the interpreter while others wait for it. With Python's
# 5 ms, every system call of the loop would wait that long beside one busy thread.
SWITCH_INTERVAL = 0.0005


class EventLoopWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Runs one EventLoop per process."""

    alive: bool  # False after a signal to stop
    counts: ConnectionCounts  # set in the master by check_config

    def __init__(self, age: int, *rest: object) -> None:
        super().__init__(age, *rest)
        # The hooks of gunicorn.conf.py set these. In pre_fork:
        self.slot = age % SLOTS
        # in post_worker_init:
        self.metrics = Metrics()
        self.max_body_bytes = DEFAULT_LIMITS.max_bytes
        self.error_reply: ErrorReply = plain_error
        self.script_name = ""
        self.logs_probes = True
        # called every second, so that a worker without requests reloads weights too
        self.poll: Callable[[], object] = lambda: None

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Abort startup if a flag has no effect; allocate the shared memory."""
        flags.check(cfg)
        cls.counts = ConnectionCounts()

    def init_process(self) -> None:
        """Tune the worker's own process, and run."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        keep_freed_memory()
        super().init_process()

    def run(self) -> None:
        """Serve until a signal to stop, then finish in-flight requests."""
        if not self.logs_probes:
            self.log.access_log.addFilter(is_not_probe)
        most = _raise_file_limit() - OTHER_FILES
        loop = EventLoop(
            application=self.wsgi,
            log=self.log,
            listeners=self.sockets,
            wakeup=self.PIPE,
            limits=ReceiveLimits(self.cfg, self.max_body_bytes, self.script_name),
            max_connections=max(1, min(self.cfg.worker_connections, most)),
            error_reply=self.error_reply,
            metrics=self.metrics,
            counts=self.counts,
            slot=self.slot,
            on_poll=self._on_poll,
        )
        while self.alive and self.ppid == os.getppid():
            loop.run_once()
        loop.drain(self.cfg.graceful_timeout)

    def _on_poll(self) -> None:
        self.notify()
        self.poll()
        # not after each request: the next one uses the same pages
        return_freed_memory()


def _raise_file_limit() -> int:
    """Raise the limit of open files as far as allowed, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
