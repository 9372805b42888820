"""Counters in shared memory, and their export to Prometheus."""

import os
import shutil
import signal
import subprocess
import threading
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.server.balancing import SLOTS, free_slot
from service.settings import MAX_WORKERS
from service.web.families import new_metrics
from tests.conftest import curl, encode, running_service, wait_until


def scrape(url: str) -> dict[tuple, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return samples(reply.read().decode())


def samples(text: str) -> dict[tuple, float]:
    """Map each name and its label values, sorted by label, to the sample's value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): (sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def service(weights):
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        wait_until(lambda: len(service.workers()) == 2)
        yield service


def test_slots_are_summed_and_a_reused_slot_keeps_counting():
    metrics = new_metrics()
    for slot in (1, 2, 1):
        metrics.begin(slot)
        metrics.request("/predict", "POST", "200", 0.0015)
        metrics.set("digits_connections", 5)
    metrics.end(2)

    found = samples(metrics.text({"model": "3f9a", "features": "pixels"})[0].decode())

    assert found["digits_requests_total", "POST", "/predict", "200"] == 3
    assert found["digits_request_seconds_bucket", "0.001", "/predict"] == 0
    assert found["digits_request_seconds_bucket", "0.002", "/predict"] == 3
    assert found["digits_request_seconds_bucket", "+Inf", "/predict"] == 3
    assert found["digits_request_seconds_sum", "/predict"] == pytest.approx(0.0045)
    assert found["digits_connections",] == 5
    assert found["digits_workers",] == 1
    assert found["digits_model_info", "pixels", "3f9a"] == 1


def test_twice_the_maximum_of_workers_have_slots_of_their_own():
    taken: list[int] = []
    for _ in range(2 * MAX_WORKERS):
        taken.append(free_slot(taken))

    assert sorted(taken) == list(range(SLOTS))
    assert free_slot(taken[:7] + taken[8:]) == taken[7]


def test_unknown_label_values_are_counted_as_other():
    metrics = new_metrics()
    metrics.request("/secret", "BREW", "418", 7)

    found = samples(metrics.text({})[0].decode())

    assert found["digits_requests_total", "other", "other", "other"] == 1
    assert found["digits_request_seconds_bucket", "+Inf", "other"] == 1


def test_concurrent_threads_lose_no_count():
    metrics = new_metrics()

    def count() -> None:
        for _ in range(20_000):
            metrics.count("digits_pictures", "read")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = samples(metrics.text({})[0].decode())
    assert found["digits_pictures_total", "read"] == 80_000


def test_requests_of_all_workers_are_counted_by_outcome(service, drawn, classifier, tmp_path):
    before = scrape(service.url)
    path = tmp_path / "digit.png"
    images = drawn.test.images[:12]
    for image in images:
        path.write_bytes(encode(image))
        assert curl("-F", f"image=@{path}", f"{service.url}/predict")[0] == 200
    path.write_bytes(images.tobytes())
    kind = "Content-Type: application/octet-stream"
    curl("--data-binary", f"@{path}", "-H", kind, f"{service.url}/predict")
    path.write_bytes(b"no picture")
    curl("-F", f"image=@{path}", f"{service.url}/predict")
    curl(f"{service.url}/nothing")

    after = scrape(service.url)

    def more(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert more("digits_requests_total", "POST", "/predict", "200") == 13
    assert more("digits_requests_total", "POST", "/predict", "415") == 1
    assert more("digits_requests_total", "GET", "other", "404") == 1
    assert more("digits_request_seconds_count", "/predict") == 14
    assert more("digits_pictures_total", "read") == 12
    assert more("digits_pictures_total", "unknown") == 1
    digits = classifier.predict_proba(images).argmax(axis=1)
    for digit, n in enumerate(np.bincount(digits, minlength=10)):
        assert more("digits_predictions_total", str(digit)) == 2 * n
    assert more("digits_top_probability_bucket", "+Inf") == 24
    assert after["digits_connections",] >= 1


def test_workers_are_counted(service):
    wait_until(lambda: scrape(service.url)["digits_workers",] == 2)


def test_no_counter_decreases_while_workers_are_killed(weights):
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        wait_until(lambda: len(service.workers()) == 2)
        last: dict[tuple, float] = {}
        n_killed = 0
        for i in range(100):
            try:
                found = scrape(service.url)
            except OSError:
                continue  # the killed worker had accepted it
            falling = [
                key
                for key, value in last.items()
                if key[0].endswith(("_total", "_count", "_bucket", "_sum"))
                and found.get(key, 0) < value
            ]
            assert falling == []
            last = found
            if i % 20 == 10:
                os.kill(service.workers()[0], signal.SIGKILL)
                n_killed += 1
                wait_until(lambda: len(service.workers()) == 2)
        wait_until(lambda: scrape(service.url)["digits_workers",] == 2)
        requests = last["digits_requests_total", "GET", "/metrics", "200"]

    assert n_killed == 5
    assert requests >= 90


def test_promtool_accepts_the_metrics(service):
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=10) as reply:
        text = reply.read()

    run = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
