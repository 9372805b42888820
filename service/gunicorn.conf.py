"""gunicorn configuration of the service, in production and in tests."""

import gc
import os
import signal
import sys
from functools import partial

from gunicorn.arbiter import Arbiter
from gunicorn.systemd import listen_fds

from service.server.balancing import free_slot
from service.server.listeners import keep_missing, open_listeners
from service.server.worker import MAX_OPEN_FILES, STOP_SIGNALS, EventLoopWorker
from service.settings import (
    LOG_NO_PROBES,
    LOG_NOTHING,
    MAX_WORKERS,
    InvalidSetting,
    ServerSettings,
    read_server_settings,
    read_settings,
)

# until gunicorn has its own handler: without one, process 1 of a container ignores SIGTERM
if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def server_settings() -> ServerSettings:
    """Read the server's settings; exit with one line if one is invalid."""
    try:
        return read_server_settings(os.environ)
    except InvalidSetting as error:
        sys.exit(f"digits: {error}")


settings = server_settings()

# a product of 1 x D by D x 10 takes less time than waking up a second thread
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

bind = [f"{settings.host}:{settings.port}"]
workers = settings.workers
worker_class = "service.server.worker.EventLoopWorker"
worker_connections = MAX_OPEN_FILES  # limited by the open files of a worker alone
keepalive = settings.keepalive
# the weights are loaded once, before the fork: invalid ones abort startup
preload_app = True
logger_class = "service.server.logs.JsonLogger"
accesslog = "-" if settings.access_log != LOG_NOTHING else None
control_socket_disable = True
# no client sets SCRIPT_NAME or the like by a header, not even over loopback
forwarder_headers = ""
# heartbeat files: in memory, which is writable in a read-only container
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

hold_stop_signals = partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOP_SIGNALS)
deliver_stop_signals = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOP_SIGNALS)


def on_starting(server: Arbiter) -> None:
    """Check the settings of --env; open the listening sockets, unless they are inherited."""
    server_settings()  # again: --env may have set them
    if not (listen_fds(unset_environment=False) or "GUNICORN_FD" in os.environ):
        server.LISTENERS = open_listeners(server.cfg, server.log)
    os.register_at_fork(after_in_parent=deliver_stop_signals)


def nworkers_changed(server: Arbiter, new: int, old: int | None) -> None:
    """Refuse more workers than there are slots, after SIGTTIN."""
    if old is not None and new > MAX_WORKERS:
        server.log.warning("%d workers are too many; keeping %d", new, MAX_WORKERS)
        server.num_workers = MAX_WORKERS


def when_ready(server: Arbiter) -> None:
    """Log whether API keys are required; freeze the objects that workers share.

    The garbage collector would copy their memory pages by looking at them.
    """
    keep_missing(server.LISTENERS)
    n = len(server.app.wsgi().extensions["digits"].api_keys.digests)
    server.log.info("%s", f"{n} API keys accepted" if n else "no API key required")
    gc.collect()
    gc.freeze()


def pre_fork(server: Arbiter, worker: EventLoopWorker) -> None:
    """Assign a slot to a new worker; have it inherit new weights.

    Until the worker can handle a signal to stop, the signal waits. Python drops one that
    a process receives while it is forked, and gunicorn one before the worker's handlers.
    """
    worker.slot = free_slot(other.slot for other in server.WORKERS.values())
    server.app.wsgi().extensions["digits"].models.current()
    hold_stop_signals()


def on_reload(server: Arbiter) -> None:
    """Apply changed API keys at SIGHUP; an invalid file keeps the previous ones."""
    try:
        server.app.wsgi().extensions["digits"].reconfigure(read_settings(os.environ))
    except InvalidSetting as error:
        server.log.error("%s; keeping the previous API keys", error)


def post_worker_init(worker: EventLoopWorker) -> None:
    """Connect the worker to its application; from here on it can be stopped."""
    extension = worker.wsgi.extensions["digits"]
    worker.metrics = extension.metrics
    worker.max_body_bytes = extension.limits.max_bytes
    worker.poll = extension.models.current
    worker.error_reply = extension.error_reply
    worker.script_name = read_server_settings(os.environ).script_name
    worker.logs_probes = settings.access_log != LOG_NO_PROBES
    extension.metrics.begin(worker.slot)
    deliver_stop_signals()


def child_exit(server: Arbiter, worker: EventLoopWorker) -> None:
    """Reset the gauges of a worker that has ended."""
    server.app.wsgi().extensions["digits"].metrics.end(worker.slot)
