"""The model that is served, and the newer file that takes its place."""

import logging
import threading
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

from service.classifier import Classifier, InvalidWeights, load
from service.server.metrics import Metrics
from service.web.prediction_json import Replies

LOOK_EVERY = 1.0  # seconds at least between two looks at the file

Signature = tuple[str, int, int, int, int]


class Served(NamedTuple):
    """What a request is answered with, from its beginning to its end."""

    classifier: Classifier
    replies: Replies


class Model:
    """The newest weights that can be served, of the first of some files that exists.

    Whoever asks for them looks whether the file was replaced, once a second at most. A
    file that cannot be served is logged once, and the weights before it go on.
    """

    def __init__(
        self, classifier: Classifier, paths: Sequence[Path], metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._served = Served(classifier, Replies(classifier))
        self._paths = paths
        self._seen = _signature(paths) if paths else None
        self._next_look = time.monotonic() + LOOK_EVERY if paths else inf
        self._looks = threading.Lock()

    def current(self) -> Served:
        """Give what is served now."""
        if time.monotonic() >= self._next_look and self._looks.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._next_look = time.monotonic() + LOOK_EVERY
                self._looks.release()
        return self._served

    def _look(self) -> None:
        signature = _signature(self._paths)
        if signature == self._seen:
            return
        # first, so that a file that is replaced once more meanwhile is seen again
        self._seen = signature
        try:
            classifier = load_first(self._paths)
        # whatever a file may hold, it fails no request
        except Exception as error:
            self._metrics.count("digits_model_failures")
            version = self._served.classifier.version
            logging.getLogger(__name__).error("%s; %s is served on", error, version)
        else:
            self._metrics.count("digits_model_reloads")
            self._served = Served(classifier, Replies(classifier))


def load_first(paths: Sequence[Path]) -> Classifier:
    """Load the first file that exists; raises InvalidWeights if it cannot be served."""
    return load(_first(paths))


def _first(paths: Sequence[Path]) -> Path:
    for path in paths:
        try:
            if path.exists():
                return path
        except OSError as error:
            raise InvalidWeights(f"weights {path}: {error.strerror}") from error
    # loading the last one says that it does not exist
    return paths[-1]


def _signature(paths: Sequence[Path]) -> Signature | None:
    """Tell one file from another in its place."""
    try:
        path = _first(paths)
        found = path.stat()
    except (OSError, InvalidWeights):
        return None
    # the last changes with its permissions too
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
