"""JSON logs on standard output, one object per line."""

import functools
import json
import logging
import os
import select
import stat
from datetime import UTC, datetime
from http import HTTPStatus
from wsgiref.types import WSGIEnvironment

from gunicorn.config import Config
from gunicorn.glogging import Logger

from service.server.wsgi_keys import REQUEST_ID

STANDARD_OUTPUT = 1
PROBES = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return an object of the time, the level, the message and more."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
        }
        line |= getattr(record, "request", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LineHandler(logging.Handler):
    """Writes lines to a file descriptor without blocking.

    A line that does not fit into a full pipe or disk is dropped. The next line that
    fits is preceded by the number of dropped ones. A QueueListener would not do: its
    thread ends with every fork, and at exit it waits for whoever reads the pipe.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = _non_blocking(fd)
        self._n_dropped = 0
        self._is_torn = False  # the last line was written in part

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, after the number of those dropped before it."""
        if self._n_dropped and self._write(self._dropped()):
            self._n_dropped = 0
        if self._n_dropped or not self._write(record):
            self._n_dropped += 1

    def _dropped(self) -> logging.LogRecord:
        message = f"{self._n_dropped} log lines dropped: standard output was full"
        return logging.makeLogRecord({"levelname": "WARNING", "msg": message})

    def _write(self, record: logging.LogRecord) -> bool:
        data = b"\n" * self._is_torn + self.format(record).encode() + b"\n"
        try:
            if not select.select([], [self._fd], [], 0)[1]:
                return False
            n = os.write(self._fd, data)
        except (OSError, ValueError):  # no reader, no space, or no such descriptor
            return False
        self._is_torn = n < len(data)
        return not self._is_torn


@functools.cache  # gunicorn sets up the log again after every SIGHUP
def _non_blocking(fd: int) -> int:
    """Reopen a pipe so that writing to it does not block; return others as they are."""
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # closed, owned by another user, or not on Linux
        pass
    return fd


class JsonLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger with JSON output."""

    def setup(self, cfg: Config) -> None:
        """Send the messages of gunicorn and of the service to standard output."""
        super().setup(cfg)
        handler = LineHandler(STANDARD_OUTPUT)
        handler.setFormatter(JsonFormatter())
        for log in (self.error_log, self.access_log, logging.getLogger("service")):
            log.handlers = [handler]
            log.propagate = False


def is_not_probe(record: logging.LogRecord) -> bool:
    """Return False for a line of `log_request` about a probe that succeeded."""
    _, path = record.args  # type: ignore[misc]  # a tuple
    return path not in PROBES or record.__dict__["request"]["status"] != HTTPStatus.OK


def log_request(log: Logger, environ: WSGIEnvironment, status: int, seconds: float) -> None:
    """Log a request that has its reply, if the access log is enabled."""
    if log.access_log_enabled:
        request = {
            "id": environ[REQUEST_ID],
            "traceparent": environ.get("HTTP_TRACEPARENT", "")[:64],
            "client": environ["REMOTE_ADDR"],
            "status": status,
            "seconds": round(seconds, 6),
        }
        what = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        log.access_log.info("%s %s", *what, extra={"request": request})
