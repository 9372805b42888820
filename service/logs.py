"""Logs: one JSON object a line on standard output, for requests only when asked."""

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.wsgi import Response

from service.environ import REQUEST_ID


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


class JsonLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's logger, speaking JSON."""

    def setup(self, cfg: Config) -> None:
        """Send gunicorn's messages, and the service's own, to standard output."""
        super().setup(cfg)
        handler = logging.StreamHandler(sys.stdout)
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
