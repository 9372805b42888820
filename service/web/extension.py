"""What every view needs, kept in app.extensions["digits"]."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from service.server.metrics import Metrics
from service.settings import Limits, Settings
from service.web.auth import Keys
from service.web.fair_lock import Turns
from service.web.model_store import Model
from service.web.problems import error_reply

NAME = "digits"


@dataclass(eq=False)
class Extension:
    """The model, the keys and the limits of one application, and what it counts."""

    model: Model
    metrics: Metrics
    keys: Keys
    limits: Limits
    turns: Turns
    error_reply = staticmethod(error_reply)  # for the worker's own refusals

    def reconfigure(self, settings: Settings) -> None:
        """Apply the settings that change without loading the application again."""
        self.keys.digests = settings.api_keys


def extension(app: Flask | None = None) -> Extension:
    """Return the extension of an application, by default the current one."""
    return cast(Extension, (app or current_app).extensions[NAME])
