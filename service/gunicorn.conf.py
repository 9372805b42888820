"""How the service runs under gunicorn: everywhere, with the container and the tests."""

import gc
import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Any

CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in µs, or "max PERIOD"


def _allowed_cpus() -> int:
    """Count the CPUs this process may use, by its affinity and its container's."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    quota, _, period = (
        CGROUP_CPU.read_text() if CGROUP_CPU.exists() else "max"
    ).partition(" ")
    if quota.strip() != "max":
        cpus = min(cpus or 1, int(quota) // int(period))
    return max(cpus or 1, 1)


def _number(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name) or str(default)
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not is_number or not low <= int(text) <= high:
        sys.exit(f"digits: {name} is {text!r}; set a number from {low} to {high}")
    return int(text)


def _host() -> str:
    host = os.environ.get("DIGITS_HOST") or "127.0.0.1"
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", host):
            sys.exit(
                f"digits: DIGITS_HOST is {host!r}; set an address or a host's name"
            )
        return host
    return f"[{host.strip('[]')}]" if version == 6 else host


# a product of 1 x D by D x 10 is over before a second thread would have woken up
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

bind = [f"{_host()}:{_number('PORT', 8000, 1, 65535)}"]
workers = _number("WEB_CONCURRENCY", _allowed_cpus(), 1, 1024)
worker_class = "service.worker.CollectingWorker"
threads = 16  # for what takes long: they compute in turns, and are mostly waiting
# the weights are read once, before the fork: bad ones stop the start, not each worker
preload_app = True
control_socket_disable = True
# no header of a client's names the application's place, not even by way of loopback
forwarder_headers = ""
# the heartbeat's files: in memory, where a read-only container lets them be written
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def when_ready(server: object) -> None:
    """Keep the collector off what workers share: looking at it would copy it."""
    gc.collect()
    gc.freeze()


def post_fork(server: Any, worker: Any) -> None:
    """Hand on the signals that reach a worker while it still has its master's ears."""
    worker.early_signals = server.SIG_QUEUE


def post_worker_init(worker: Any) -> None:
    """Have a worker count in its own slot of the application's metrics."""
    worker.metrics = worker.wsgi.extensions["metrics"]
    worker.metrics.begin(worker.age)


def child_exit(server: Any, worker: Any) -> None:
    """Forget what a worker that has ended had in work."""
    server.app.wsgi().extensions["metrics"].end(worker.age)
