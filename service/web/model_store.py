"""Hot reload of the weights file."""

import logging
import threading
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

from service.classifier import Classifier, InvalidWeights, first_existing, load_first
from service.server.metrics import Metrics

__all__ = ["Classifier", "InvalidWeights", "ModelStore", "load_first"]

CHECK_INTERVAL = 1.0  # seconds, at least, between two checks of the file

_log = logging.getLogger(__name__)


class ModelStore:
    """The current classifier, reloaded when the first existing weights file changes.

    `current` checks the file, at most once a second. An invalid file is logged once,
    and the previous model is kept.
    """

    def __init__(
        self, classifier: Classifier | None, paths: Sequence[Path], metrics: Metrics
    ) -> None:
        """Load the weights, unless a classifier is given. Raises InvalidWeights."""
        self._metrics = metrics
        self._paths = paths
        # before loading: a file that is replaced meanwhile is loaded at the next check
        self._seen = _signature(paths) if paths else None
        self._classifier = classifier or load_first(paths)
        self._next_check = time.monotonic() + CHECK_INTERVAL if paths else inf
        self._checking = threading.Lock()

    def current(self) -> Classifier:
        """Return the classifier of the newest valid weights."""
        is_due = time.monotonic() >= self._next_check
        if is_due and self._checking.acquire(blocking=False):
            try:
                self._reload_if_changed()
            finally:
                self._next_check = time.monotonic() + CHECK_INTERVAL
                self._checking.release()
        return self._classifier

    def _reload_if_changed(self) -> None:
        signature = _signature(self._paths)
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._classifier = load_first(self._paths)
            self._metrics.count("digits_model_reloads")
        # whatever the file holds, no request may fail
        except Exception as error:
            self._metrics.count("digits_model_failures")
            _log.error("%s; keeping model %s", error, self._classifier.version)


def _signature(paths: Sequence[Path]) -> tuple[object, ...] | None:
    """Return values of which at least one changes when the file is replaced."""
    try:
        path = first_existing(paths)
        found = path.stat()
    except (OSError, InvalidWeights):
        return None
    # the last one changes with the permissions too
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
