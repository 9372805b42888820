"""The service unwatched: what metrics, ids and safety headers are measured against."""

from typing import Any

from flask import Flask

from service import app
from service.server.event_loop import EventLoop
from service.server.http import Request
from service.server.metrics import Metrics
from service.web import fast_path as door


class NoMetrics(Metrics):
    """Counts nothing."""

    def request(self, *_: Any, **__: Any) -> None:
        """Leave it."""

    count = set = predictions = request


def create_app() -> Flask:
    """Build the service; every request has the same id, which is made once."""
    app.Metrics = NoMetrics  # type: ignore[misc]
    door.SAFE.clear()
    Request.id = "-"
    EventLoop.record = lambda *_: None  # neither logs nor counts
    return app.create_app()
