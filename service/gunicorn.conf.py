"""gunicorn configuration of the service, in production and in tests."""

import gc
import os
import sys

from gunicorn.arbiter import Arbiter

from service.server.balancing import free_slot
from service.server.worker import EventLoopWorker
from service.settings import InvalidSetting, read_server_settings, read_settings

try:
    settings = read_server_settings(os.environ)
except InvalidSetting as error:
    sys.exit(f"digits: {error}")

# a product of 1 x D by D x 10 takes less time than waking up a second thread
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

bind = [f"{settings.host}:{settings.port}"]
workers = settings.workers
worker_class = "service.server.worker.EventLoopWorker"
# the weights are loaded once, before the fork: invalid ones abort startup
preload_app = True
logger_class = "service.server.logs.JsonLogger"
accesslog = "-" if settings.access_log else None
control_socket_disable = True
# no client sets SCRIPT_NAME or the like by a header, not even over loopback
forwarder_headers = ""
# heartbeat files: in memory, which is writable in a read-only container
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def when_ready(server: Arbiter) -> None:
    """Log whether API keys are required; freeze the objects that workers share.

    The garbage collector would copy their memory pages by looking at them.
    """
    n = len(server.app.wsgi().extensions["digits"].api_keys.digests)
    server.log.info("%s", f"{n} API keys accepted" if n else "no API key required")
    gc.collect()
    gc.freeze()


def pre_fork(server: Arbiter, worker: EventLoopWorker) -> None:
    """Assign a slot to a new worker; have it inherit new weights."""
    worker.slot = free_slot(other.slot for other in server.WORKERS.values())
    server.app.wsgi().extensions["digits"].models.current()


def on_reload(server: Arbiter) -> None:
    """Apply changed API keys at SIGHUP; an invalid file keeps the previous ones."""
    try:
        server.app.wsgi().extensions["digits"].reconfigure(read_settings(os.environ))
    except InvalidSetting as error:
        server.log.error("%s; keeping the previous API keys", error)


def post_fork(server: Arbiter, worker: EventLoopWorker) -> None:
    """Re-deliver signals received before the worker installs its own handlers."""
    worker.early_signals = server.SIG_QUEUE


def post_worker_init(worker: EventLoopWorker) -> None:
    """Connect the worker to its application."""
    extension = worker.wsgi.extensions["digits"]
    worker.metrics = extension.metrics
    worker.max_body_bytes = extension.limits.max_bytes
    worker.poll = extension.models.current
    worker.error_reply = extension.error_reply
    extension.metrics.begin(worker.slot)


def child_exit(server: Arbiter, worker: EventLoopWorker) -> None:
    """Reset the gauges of a worker that has ended."""
    server.app.wsgi().extensions["digits"].metrics.end(worker.slot)
