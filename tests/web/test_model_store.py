"""What is served, and what takes its place while it is served."""

import contextlib
import http.client
import json
import os
import shutil
import threading
import time

import numpy as np
import pytest

from service.classifier import InvalidWeights, load
from service.server.metrics import Metrics
from service.settings import EMBEDDED_WEIGHTS
from service.web import model_store as module
from service.web.families import new_metrics
from service.web.model_store import Model, Served, load_first
from tests.conftest import encode, running_service, wait_until


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0)


@pytest.fixture
def path(tmp_path, weights):
    return shutil.copy(weights, tmp_path / "digits.safetensors")


def replace(path, content: bytes) -> None:
    """Put a file in place of another as the training job does."""
    part = path.with_name("part")
    part.write_bytes(content)
    os.replace(part, path)


def counted(metrics: Metrics, served: Served) -> tuple[int, int]:
    """Give how many reloads and how many failures were counted."""
    text = metrics.text({})[0].decode()
    return tuple(
        int(float(text.split(f"\ndigits_model_{what}_total ")[1].split("\n")[0]))
        for what in ("reloads", "failures")
    )


def test_file_that_is_replaced_is_served_from_then_on(path, weights):
    metrics = new_metrics()
    model = Model(load(path), [path], metrics)
    before = model.current()

    replace(path, EMBEDDED_WEIGHTS.read_bytes())

    after = model.current()
    assert before.classifier.version == load(weights).version
    assert after.classifier.version == load(EMBEDDED_WEIGHTS).version
    assert after.classifier.version in after.replies.one(np.eye(10)[0]).decode()
    assert counted(metrics, after) == (1, 0)
    assert model.current() is after


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b'"format":"1"', b'"format":"9"'),
        lambda content: content.replace(b"stroke-edges", b"stroke-hedge"),
        lambda content: content[:-4] + b"\xff" * 4,  # not a number
        lambda content: content[:-4] + b"\xff\xff\x7f\x7f",  # 3.4e38
        lambda content: (
            (39).to_bytes(8, "little") + b'{"__metadata__":null,"a":null}         '
        ),
    ],
)
def test_file_that_cannot_be_served_is_logged_once_and_the_old_one_goes_on(
    path, damage, caplog
):
    content = path.read_bytes()
    metrics = new_metrics()
    model = Model(load(path), [path], metrics)
    before = model.current()

    replace(path, damage(content))

    assert [model.current() for _ in range(3)] == [before] * 3
    assert counted(metrics, before) == (0, 1)
    (record,) = caplog.records
    assert f"weights {path}: " in record.getMessage()
    assert before.classifier.version in record.getMessage()

    replace(path, content)
    assert model.current().classifier.version == before.classifier.version
    assert counted(metrics, before) == (1, 1)


def test_first_file_that_exists_is_served_when_it_comes_to_exist(path, tmp_path):
    paths = [tmp_path / "trained", path]
    model = Model(load_first(paths), paths, new_metrics())

    replace(paths[0], EMBEDDED_WEIGHTS.read_bytes())

    assert model.current().classifier.version == load(EMBEDDED_WEIGHTS).version


def test_file_that_vanishes_is_served_on(path):
    model = Model(load(path), [path], new_metrics())
    before = model.current()

    path.unlink()

    assert model.current() is before
    with pytest.raises(InvalidWeights, match="No such file"):
        load_first([path])


def test_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidWeights, match="not a safetensors file"):
        load(tmp_path / "pipe")


def test_weights_swapped_under_load_fail_no_request_and_mix_in_none(
    path, weights, drawn
):
    contents = [path.read_bytes(), EMBEDDED_WEIGHTS.read_bytes()]
    classifiers = {c.version: c for c in (load(weights), load(EMBEDDED_WEIGHTS))}
    image = drawn.test.images[0]
    seen: list[dict] = []
    done = threading.Event()

    def post(port: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        with contextlib.closing(connection):
            while not done.is_set():
                connection.request(
                    "POST", "/predict", encode(image), {"Content-Type": "image/png"}
                )
                reply = connection.getresponse()
                assert reply.status == 200
                seen.append(json.load(reply))

    with running_service(DIGITS_WEIGHTS=str(path)) as service:
        port = service.url.rpartition(":")[2]
        clients = [threading.Thread(target=post, args=(port,)) for _ in range(4)]
        for client in clients:
            client.start()
        for i in range(1, 4):
            replace(path, contents[i % 2])
            time.sleep(1.2)
        replace(path, b"not weights")
        time.sleep(1.2)
        version = load(EMBEDDED_WEIGHTS).version
        wait_until(lambda: {reply["model"] for reply in seen[-20:]} == {version})
        done.set()
        for client in clients:
            client.join()

    assert {reply["model"] for reply in seen} == set(classifiers)
    for version, classifier in classifiers.items():
        expected = classifier.predict_proba(image[np.newaxis])[0]
        for reply in seen:
            if reply["model"] == version:
                np.testing.assert_allclose(reply["probabilities"], expected, rtol=1e-6)
