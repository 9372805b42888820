"""Logs: one JSON object a line on standard output, for requests only when asked."""

import functools
import json
import logging
import os
import select
import stat
from datetime import UTC, datetime, timedelta
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.wsgi import Response

from service.server.wsgi_keys import REQUEST_ID

STANDARD_OUTPUT = 1


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of ASCII, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Put the record's time, level, message and more into an object."""
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
    """Writes lines to a file descriptor, and never waits for who reads them.

    A line that a full pipe or disk does not take is lost, and how many were is told
    before the next one that is taken.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = _without_waiting(fd)
        self._n_lost = 0
        self._is_torn = False  # the last line was taken in part

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, after a word on those that were lost."""
        if self._n_lost and not self._write(self._line_on_lost()):
            self._n_lost += 1
            return
        self._n_lost = 0
        self._n_lost += not self._write(self.format(record))

    def _line_on_lost(self) -> str:
        return self.format(
            logging.makeLogRecord(
                {
                    "levelno": logging.WARNING,
                    "levelname": "WARNING",
                    "msg": f"{self._n_lost} lines of the log were lost",
                }
            )
        )

    def _write(self, line: str) -> bool:
        data = b"\n" * self._is_torn + line.encode() + b"\n"
        try:
            if not select.select([], [self._fd], [], 0)[1]:
                return False
            n = os.write(self._fd, data)
        except (OSError, ValueError):  # nobody reads, no room, or no such file
            return False
        self._is_torn = n < len(data)
        return not self._is_torn


@functools.cache  # gunicorn sets its log up again at every SIGHUP
def _without_waiting(fd: int) -> int:
    """Open a pipe once more, so that writing to it does not wait; no other file."""
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # closed, another user's, or not on Linux
        pass
    return fd


class JsonLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's logger, speaking JSON."""

    def setup(self, cfg: Config) -> None:
        """Send gunicorn's messages, and the service's own, to standard output."""
        super().setup(cfg)
        handler = LineHandler(STANDARD_OUTPUT)
        handler.setFormatter(JsonFormatter())
        for log in (self.error_log, self.access_log, logging.getLogger("service")):
            log.handlers = [handler]
            log.propagate = False

    def access(
        self, resp: Response, req: Any, environ: dict[str, Any], request_time: timedelta
    ) -> None:
        """Log a request that was answered, if requests are logged."""
        if self.access_log_enabled:
            self.access_log.info(
                "%s %s",
                req.method,
                environ["PATH_INFO"],
                extra={
                    "request": {
                        "id": environ.get(REQUEST_ID),
                        "traceparent": environ.get("HTTP_TRACEPARENT", "")[:64],
                        "client": environ["REMOTE_ADDR"],
                        "status": int(resp.status[:3]),
                        "seconds": round(request_time.total_seconds(), 6),
                    }
                },
            )
