"""Hot reload of the weights file."""

import contextlib
import http.client
import json
import os
import re
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
from service.web.model_store import ModelStore, load_first
from tests.conftest import encode, running_service, wait_until


@pytest.fixture(autouse=True)
def check_at_every_call(monkeypatch):
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0)


@pytest.fixture
def path(tmp_path, weights):
    return shutil.copy(weights, tmp_path / "digits.safetensors")


def replace(path, content: bytes) -> None:
    """Replace a file atomically, as the training job does."""
    part = path.with_name("part")
    part.write_bytes(content)
    os.replace(part, path)


def counted(metrics: Metrics) -> tuple[int, int]:
    """Return the numbers of reloads and of failed reloads."""
    text = metrics.text({})[0].decode()
    return tuple(
        int(float(text.split(f"\ndigits_model_{what}_total ")[1].split("\n")[0]))
        for what in ("reloads", "failures")
    )


def test_replaced_file_is_loaded_once(path, weights):
    metrics = new_metrics()
    models = ModelStore(load(path), [path], metrics)
    before = models.current()

    replace(path, EMBEDDED_WEIGHTS.read_bytes())

    after = models.current()
    assert before.version == load(weights).version
    assert after.version == load(EMBEDDED_WEIGHTS).version
    assert counted(metrics) == (1, 0)
    assert models.current() is after


def test_file_replaced_while_it_is_loaded_is_loaded_again(path, monkeypatch):
    def replaced_meanwhile(paths):
        classifier = load_first(paths)
        monkeypatch.undo()
        monkeypatch.setattr(module, "CHECK_INTERVAL", 0)
        replace(path, EMBEDDED_WEIGHTS.read_bytes())
        return classifier

    monkeypatch.setattr(module, "load_first", replaced_meanwhile)
    models = ModelStore(None, [path], new_metrics())

    assert models.current().version == load(EMBEDDED_WEIGHTS).version


def with_first(content: bytes, value: bytes) -> bytes:
    """Replace the first number of a weights file, a float32."""
    start = 8 + int.from_bytes(content[:8], "little")
    return content[:start] + value + content[start + len(value) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: re.sub(rb'"format":"\d"', b'"format":"9"', content),
        lambda content: content.replace(b"stroke-waves", b"stroke-wakes"),
        lambda content: re.sub(
            rb'(accuracy\\": )([\d.]+)', lambda m: m[1] + b"NaN".rjust(len(m[2])), content
        ),
        lambda content: with_first(content, b"\xff" * 4),  # not a number
        lambda content: with_first(content, b"\xff\xff\x7f\x7f"),  # 3.4e38
        lambda content: (39).to_bytes(8, "little") + b'{"__metadata__":null,"a":null}         ',
    ],
)
def test_invalid_file_is_logged_once_and_the_previous_model_kept(path, damage, caplog):
    content = path.read_bytes()
    metrics = new_metrics()
    models = ModelStore(load(path), [path], metrics)
    before = models.current()

    replace(path, damage(content))

    assert all(models.current() is before for _ in range(3))
    assert counted(metrics) == (0, 1)
    (record,) = caplog.records
    assert f"weights {path}: " in record.getMessage()
    assert record.getMessage().endswith(f"; keeping model {before.version}")

    replace(path, content)
    assert models.current().version == before.version
    assert counted(metrics) == (1, 1)


def test_earlier_path_is_preferred_as_soon_as_its_file_exists(path, tmp_path):
    paths = [tmp_path / "trained", path]
    models = ModelStore(load_first(paths), paths, new_metrics())

    replace(paths[0], EMBEDDED_WEIGHTS.read_bytes())

    assert models.current().version == load(EMBEDDED_WEIGHTS).version


def test_deleted_file_leaves_the_model_in_use(path):
    models = ModelStore(load(path), [path], new_metrics())
    before = models.current()

    path.unlink()

    assert models.current() is before
    with pytest.raises(InvalidWeights, match="No such file"):
        load_first([path])


def test_pipe_in_place_of_a_file_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidWeights, match="not a safetensors file"):
        load(tmp_path / "pipe")


@pytest.mark.parametrize(
    "config", ["our worker", pytest.param("gthread", marks=pytest.mark.slow)], indirect=True
)
def test_reloads_under_load_fail_no_request_and_mix_no_models(config, path, weights, drawn):
    contents = [path.read_bytes(), EMBEDDED_WEIGHTS.read_bytes()]
    classifiers = {c.version: c for c in (load(weights), load(EMBEDDED_WEIGHTS))}
    image = drawn.test.images[0]
    seen: list[dict] = []
    done = threading.Event()

    def post(port: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        with contextlib.closing(connection):
            while not done.is_set():
                connection.request("POST", "/predict", encode(image), {"Content-Type": "image/png"})
                reply = connection.getresponse()
                assert reply.status == 200
                seen.append(json.load(reply))
                time.sleep(0.005)

    with running_service(config=config, DIGITS_WEIGHTS=str(path)) as service:
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
