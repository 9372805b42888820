"""The service when it has more work than it can do, or work that nobody waits for."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.overload import large_form, picture, request
from benchmarks.servers import FORM
from service.server.jobs import MAX_COST
from tests.conftest import Service, answers, running_service, wait_until

FORM_OF_1000 = large_form()


@pytest.fixture
def service():
    with running_service(WEB_CONCURRENCY="1") as service:
        yield service


def post(service: Service, body: bytes, kind: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
    with contextlib.closing(client):
        client.request("POST", "/predict", body, {"Content-Type": kind})
        reply = client.getresponse()
        reply.read()
        return reply


def connect(service: Service) -> socket.socket:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def metric(service: Service, name: str) -> float:
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=60) as reply:
        text = reply.read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0


def n_read(service: Service) -> float:
    return metric(service, 'digits_pictures_total{outcome="read"}')


def n_in_work(service: Service) -> float:
    return metric(service, "digits_requests_in_work")


def test_abandoned_form_stops_after_few_of_its_pictures(service):
    with connect(service) as client:
        client.sendall(request(FORM_OF_1000))
        wait_until(lambda: n_read(service) > 0)
    wait_until(lambda: n_in_work(service) == 0)
    n = n_read(service)

    assert n < 900
    assert post(service, picture(10), "image/png").status == 200
    assert n_read(service) == n + 1


def test_single_picture_is_answered_before_the_forms_that_came_first(service):
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(service)).sendall(request(FORM_OF_1000))
        wait_until(lambda: n_in_work(service) == 4)

        assert post(service, picture(10), "image/png").status == 200
        assert n_in_work(service) == 4


def test_forms_over_the_bound_are_refused_and_readiness_follows_the_queue(service):
    n = MAX_COST // 1_000 + 2
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(n) as pool:
        clients = [stack.enter_context(connect(service)) for _ in range(n)]
        for client in clients:
            pool.submit(client.sendall, request(FORM_OF_1000))
        wait_until(lambda: not answers(f"{service.url}/readyz"))
        refused = post(service, FORM_OF_1000, FORM)
        single = post(service, picture(10), "image/png")

    assert refused.status == 503
    assert refused.headers["Retry-After"]
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert single.status == 200
    wait_until(lambda: answers(f"{service.url}/readyz"))


def test_readiness_names_the_queue_as_its_reason(service):
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_COST // 1_000 - 1):
            stack.enter_context(connect(service)).sendall(request(FORM_OF_1000))
        wait_until(lambda: not answers(f"{service.url}/readyz"))
        client = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
        with contextlib.closing(client):
            client.request("GET", "/readyz")
            problem = json.load(client.getresponse())

    assert problem["status"] == 503
    assert "queue" in problem["detail"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGQUIT], ids=lambda s: s.name)
def test_service_that_stops_does_not_finish_abandoned_forms(service, stop):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect(service)).sendall(request(FORM_OF_1000))
        wait_until(lambda: n_in_work(service) == 8)
    service.process.send_signal(stop)

    assert service.process.wait(timeout=15) == 0


def test_sigquit_does_not_wait_for_forms_that_clients_wait_for(service):
    (worker,) = service.workers()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect(service)).sendall(request(FORM_OF_1000))
        wait_until(lambda: n_in_work(service) == 8)
        service.process.send_signal(signal.SIGQUIT)

        assert service.process.wait(timeout=15) == 0
    assert not os.path.exists(f"/proc/{worker}")
