"""The probes with what the server reports in the WSGI environ."""

import numpy as np
import pytest

from benchmarks.hostile import png
from service.app import create_app
from service.server.wsgi_keys import ADMIT, BUSY, IS_CANCELLED, STOPPING
from service.settings import DEFAULT_LIMITS
from tests.conftest import encode


@pytest.mark.parametrize(("key", "reason"), [(BUSY, "queue"), (STOPPING, "stopping")])
def test_readiness_fails_with_a_reason_and_liveness_does_not(classifier, key, reason):
    client = create_app(classifier).test_client()

    reply = client.get("/readyz", environ_overrides={key: True})

    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "1"
    assert reason in reply.json["detail"]
    assert client.get("/livez", environ_overrides={key: True}).status_code == 200
    assert client.get("/readyz").status_code == 200


def form(*files: bytes) -> dict:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="7.png"\r\n\r\n'
    body = b"".join(head + file + b"\r\n" for file in files) + b"--b--\r\n"
    return {"data": body, "content_type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(("n_turns", "n_read"), [(0, 0), (2, 2), (9, 5)])
def test_no_picture_is_read_once_the_client_has_left(classifier, drawn, n_turns, n_read):
    app = create_app(classifier)
    turns = iter([False] * n_turns)
    image = encode(drawn.test.images[0].repeat(8, 0).repeat(8, 1))

    reply = app.test_client().post(
        "/predict",
        **form(*[image] * 5),
        environ_overrides={IS_CANCELLED: lambda: next(turns, True)},
    )

    totals = app.extensions["digits"].metrics.totals()
    assert totals["digits_pictures", "read"] == n_read
    assert (reply.status_code == 200) == (n_turns > 5)


def test_cost_counts_pictures_pixels_and_bytes(classifier, drawn):
    client, costs = create_app(classifier).test_client(), []
    overrides = {"environ_overrides": {ADMIT: costs.append}}
    image = encode(drawn.test.images[0].repeat(8, 0).repeat(8, 1))
    photo = encode(np.full((1000, 2000), 255, np.uint8))
    bulk = {"data": bytes(784 * 1000), "content_type": "application/octet-stream"}

    replies = [
        client.post("/predict", **request, **overrides)
        for request in (form(image), form(*[image] * 7), form(photo), bulk)
    ]

    # a server that has too much work returns a false value
    assert [reply.status_code for reply in replies] == [503] * 4
    assert replies[0].headers["Retry-After"] == "1"
    one, seven, large, many = costs
    n_pixels = 224**2
    assert one == pytest.approx(1 + n_pixels / 100_000, abs=0.1)
    assert seven == pytest.approx(7 * (1 + n_pixels / 100_000), abs=0.5)
    assert large == pytest.approx(1 + 20, abs=0.5)
    assert many == pytest.approx(784_000 / 2**16)


def test_cost_does_not_count_more_pixels_than_a_form_may_have(classifier):
    client, costs = create_app(classifier).test_client(), []
    claim = png(2**31 - 1, 2**31 - 1, rows=b"")

    client.post("/predict", data=claim, environ_overrides={ADMIT: costs.append})

    assert costs[0] <= 2 + DEFAULT_LIMITS.max_pixels_together / 100_000
