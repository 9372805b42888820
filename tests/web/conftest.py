"""Fixtures of the web tests: the application on our worker and on gunicorn's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
