"""Fixtures of the web tests: the application on our worker and on gunicorn's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from service.app import create_app
from service.classifier import Classifier, Detector
from tests.conftest import Service, running_service

GTHREAD = """
import os

bind = "127.0.0.1:" + os.environ["PORT"]
worker_class = "gthread"
threads = 4
"""


@pytest.fixture(scope="package", params=["our worker", "gthread"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a gunicorn configuration."""
    if request.param == "our worker":
        return "service/gunicorn.conf.py"
    path = tmp_path_factory.mktemp("gthread") / "gunicorn.conf.py"
    path.write_text(GTHREAD)
    return str(path)


@pytest.fixture(scope="package")
def service(config: str, weights: Path) -> Iterator[Service]:
    """Run the application on each server, once for all tests."""
    with running_service(config=config, DIGITS_WEIGHTS=str(weights)) as service:
        yield service


def with_detector(classifier: Classifier, log_odds: npt.ArrayLike, threshold: float) -> Classifier:
    """Return a classifier whose P(digit) depends only on the class that it reads.

    log_odds: of the classes (K,), or one for all
    """
    d, k = classifier.weight.shape
    one = np.ones(k, np.float32)
    detector = Detector(
        np.zeros((k, d), np.int8), one, np.multiply(one, log_odds, dtype=np.float32), threshold
    )
    return replace(classifier, detector=detector)


@pytest.fixture(scope="session")
def detecting(classifier: Classifier) -> Classifier:
    """Return a classifier with a detector that refuses what is read as 0 to 4."""
    return with_detector(classifier, np.arange(10) - 4.5, 0.5)


@pytest.fixture(params=["fast path", "Flask alone"])
def detecting_client(request: pytest.FixtureRequest, detecting: Classifier):
    """Return a client of the application with a detector, as `client` is."""
    app = create_app(detecting)
    if request.param == "Flask alone":
        app.wsgi_app = app.wsgi_app.application
    return app.test_client()
