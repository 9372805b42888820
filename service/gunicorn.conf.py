"""How the service runs under gunicorn: everywhere, with the container and the tests."""

import gc
import os
import sys
from typing import Any

from service.server.balancing import free_slot
from service.settings import InvalidSetting, read_server_settings, read_settings

try:
    settings = read_server_settings(os.environ)
except InvalidSetting as error:
    sys.exit(f"digits: {error}")

# a product of 1 x D by D x 10 is over before a second thread would have woken up
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

bind = [f"{settings.host}:{settings.port}"]
workers = settings.workers
worker_class = "service.server.worker.CollectingWorker"
threads = 16  # for what takes long: they compute in turns, and are mostly waiting
# the weights are read once, before the fork: bad ones stop the start, not each worker
preload_app = True
logger_class = "service.server.logs.JsonLogger"
accesslog = "-" if settings.access_log else None
control_socket_disable = True
# no header of a client's names the application's place, not even by way of loopback
forwarder_headers = ""
# the heartbeat's files: in memory, where a read-only container lets them be written
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def when_ready(server: Any) -> None:
    """Say who is let in; keep the collector off what workers share.

    Looking at it would copy it.
    """
    n_keys = len(server.app.wsgi().extensions["digits"].api_keys.digests)
    server.log.info("%s", f"{n_keys} keys are let in" if n_keys else "open to everyone")
    gc.collect()
    gc.freeze()


def pre_fork(server: Any, worker: Any) -> None:
    """Assign a slot to a new worker; have it inherit new weights."""
    worker.slot = free_slot(other.slot for other in server.WORKERS.values())
    server.app.wsgi().extensions["digits"].models.current()


def on_reload(server: Any) -> None:
    """Apply changed API keys at SIGHUP; an invalid file keeps the previous ones."""
    try:
        server.app.wsgi().extensions["digits"].reconfigure(read_settings(os.environ))
    except InvalidSetting as error:
        server.log.error("%s; keeping the previous API keys", error)


def post_fork(server: Any, worker: Any) -> None:
    """Hand on the signals that reach a worker while it still has its master's ears."""
    worker.early_signals = server.SIG_QUEUE


def post_worker_init(worker: Any) -> None:
    """Connect the worker to the application that it runs."""
    extension = worker.wsgi.extensions["digits"]
    worker.metrics = extension.metrics
    worker.max_body_bytes = extension.limits.max_bytes
    worker.poll = extension.models.current
    worker.error_reply = extension.error_reply
    worker.metrics.begin(worker.slot)


def child_exit(server: Any, worker: Any) -> None:
    """Reset the gauges of a worker that has ended."""
    server.app.wsgi().extensions["digits"].metrics.end(worker.slot)
