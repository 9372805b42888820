"""State that all requests share: app.extensions["digits"]."""

from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import cast
from wsgiref.types import WSGIEnvironment

from flask import current_app

from service.server.metrics import Metrics
from service.settings import Limits, Settings
from service.web.auth import ApiKeys
from service.web.cors import Cors
from service.web.fair_lock import FairLock
from service.web.model_store import ModelStore
from service.web.problems import error_reply

NAME = "digits"


@dataclass(eq=False)
class Extension:
    """The model, API keys, limits, metrics, origins and feedback folder of one application."""

    models: ModelStore
    metrics: Metrics
    api_keys: ApiKeys
    limits: Limits
    cors: Cors
    feedback_dir: Path | None = None  # where corrections are kept
    compute_lock: FairLock = field(default_factory=FairLock)

    def error_reply(
        self, status: HTTPStatus, detail: str, environ: WSGIEnvironment
    ) -> tuple[list[tuple[str, str]], bytes]:
        """Return the headers and the body of an error that the server itself sends."""
        headers, body = error_reply(status, detail, environ)
        return [*headers, *self.cors.headers_for(environ.get("HTTP_ORIGIN", ""))], body

    def reconfigure(self, settings: Settings) -> None:
        """Apply the settings that may change while the application runs: API keys."""
        self.api_keys.digests = settings.api_keys


def extension() -> Extension:
    """Return the extension of the current application."""
    return cast(Extension, current_app.extensions[NAME])
