"""Fixtures of the web tests: the application on our worker and on gunicorn's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.app import create_app
from service.classifier import Classifier, Detector, logit_numbers
from service.features import FEATURES
from tests.conftest import Service, running_service
from training.data.dataset import DataSet

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


@pytest.fixture(scope="session")
def detecting(classifier: Classifier, drawn: DataSet) -> Classifier:
    """Return a classifier whose detector refuses about half of the drawn test digits.

    It sees nothing but the logits: log Σ exp.
    """
    features = FEATURES[classifier.features](drawn.test.images)
    numbers = logit_numbers(classifier.logits(features))
    weight = np.zeros(features.shape[1] + numbers.shape[1], np.float32)
    weight[-1] = 1
    bias = -np.median(numbers[:, -1:], axis=0).astype(np.float32)
    return replace(classifier, detector=Detector(weight, bias, 0.5), version="detecting")


@pytest.fixture(params=["fast path", "Flask alone"])
def detecting_client(request: pytest.FixtureRequest, detecting: Classifier):
    """Return a client of the application with a detector, as `client` is."""
    app = create_app(detecting)
    if request.param == "Flask alone":
        app.wsgi_app = app.wsgi_app.application
    return app.test_client()
