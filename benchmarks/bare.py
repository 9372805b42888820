"""The service unwatched: what metrics, ids and safety headers are measured against."""

from typing import Any

from flask import Flask

from service import app
from service.server import worker
from service.server.metrics import Metrics
from service.server.worker import CollectingWorker
from service.web import fast_path as door


class NoMetrics(Metrics):
    """Counts nothing."""

    def request(self, *_: Any, **__: Any) -> None:
        """Leave it."""

    count = set = predictions = request


class BareWorker(CollectingWorker):
    """Neither logs nor counts what it has answered."""

    def _record(self, *_: Any) -> None:
        """Leave it."""


def create_app() -> Flask:
    """Build the service; every request has the same id, which is made once."""
    app.Metrics = NoMetrics  # type: ignore[misc]
    door.SAFE.clear()
    worker.request_id = lambda asked_for: "-"
    return app.create_app()
