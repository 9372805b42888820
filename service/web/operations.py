"""Probes, metrics, and descriptions of the model and the API."""

from typing import Any

from flask import Response, request
from werkzeug.exceptions import ServiceUnavailable

from service.server.wsgi_keys import BUSY, STOPPING
from service.web.extension import extension
from service.web.openapi import describe


def live() -> dict[str, str]:
    """Report that the process is running."""
    return {"status": "alive"}


def ready() -> dict[str, str]:
    """Report that requests can be served; 503 while the server is stopping or overloaded."""
    if STOPPING in request.environ:
        raise ServiceUnavailable("the server is stopping; send requests to another one")
    if BUSY in request.environ:
        raise ServiceUnavailable("the queue is nearly full; send requests to another server")
    return {"status": "ready", "model": extension().models.current().version}


def metrics() -> Response:
    """Export the metrics of all workers in Prometheus's text format."""
    classifier = extension().models.current()
    text, content_type = extension().metrics.text(
        {"model": classifier.version, "features": classifier.features}
    )
    return Response(text, content_type=content_type)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document, with the path prefix as its server."""
    document = describe(extension().limits)
    return document | {"servers": [{"url": request.script_root or "/"}]}


def model() -> dict[str, Any]:
    """Return how the current model was trained and evaluated."""
    classifier = extension().models.current()
    detector = classifier.detector
    threshold = {"is_digit_threshold": detector.threshold} if detector else {}
    return {
        "model": classifier.version,
        "format": classifier.format,
        "features": classifier.features,
        "classes": list(classifier.classes),
        **threshold,
        **({"feedback": True} if extension().feedback_dir else {}),
        "training": dict(classifier.training),
        "evaluation": dict(classifier.evaluation),
    }
