"""The application on real servers, held to its own replies without one."""

import http.client
import io
import json
import socket

import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.settings import DEFAULT_LIMITS
from tests.conftest import Service, curl, encode, running_service

FORM = "multipart/form-data; boundary=b"
HEAD = b'Content-Disposition: form-data; name="image"; filename="7.png"\r\n\r\n'


def form(*files: bytes) -> bytes:
    parts = b"".join(b"--b\r\n" + HEAD + file + b"\r\n" for file in files)
    return parts + b"--b--\r\n"


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def send(
    service: Service, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, str, bytes]:
    client = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    client.request(method, path, body or None, headers)
    reply = client.getresponse()
    content = reply.read()
    client.close()
    return reply.status, reply.headers["Content-Type"], content


def test_replies_on_a_server_are_those_of_the_application(service, classifier, drawn):
    client = create_app(classifier).test_client()
    image, other = drawn.test.images[:2]
    png, large = encode(image), encode(np.kron(image, np.ones((8, 8), np.uint8)))
    requests = [
        ("POST", "/predict", form(png), {"Content-Type": FORM}),
        ("POST", "/predict", png, {"Content-Type": "image/png"}),
        ("POST", "/predict", form(large), {"Content-Type": FORM}),
        ("POST", "/predict", form(png, b"x", encode(other)), {"Content-Type": FORM}),
        ("POST", "/predict?explain=1", form(png), {"Content-Type": FORM}),
        ("POST", "/predict", image.tobytes(), {"Content-Type": "application/x-npy"}),
        ("POST", "/predict", npy(image[None]), {"Content-Type": "application/x-npy"}),
        ("POST", "/predict", form(png), {"Content-Type": FORM, "Accept": "application/x-npy"}),
        ("POST", "/predict", b"x", {"Content-Type": "image/png"}),
        ("POST", "/predict", b"{}", {"Content-Type": "application/json"}),
        ("POST", "/predict", form()[2:], {"Content-Type": FORM}),
        ("POST", "/predict", encode(Image.new("L", (9, 9))), {"Content-Type": "image/png"}),
        ("GET", "/predict", b"", {}),
        ("GET", "/absent", b"", {}),
        *(
            ("GET", path, b"", {})
            for path in ("/", "/docs", "/livez", "/readyz", "/model", "/openapi.json")
        ),
    ]

    for method, path, body, headers in requests:
        expected = client.open(path, method=method, data=body, headers=headers)

        status, kind, content = send(service, method, path, body, headers)

        assert (status, kind) == (expected.status_code, expected.content_type), path
        assert content == expected.data, path


def chunked(service: Service, body: bytes) -> tuple[int, dict]:
    """Post chunks as they are, however malformed; return the status and the problem."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + body
        )
        reply = http.client.HTTPResponse(client)
        reply.begin()
        return reply.status, json.loads(reply.read())


def test_chunked_body_is_a_picture_like_any_other(service, drawn):
    png = encode(drawn.test.images[0])

    status, reply = chunked(service, b"%x\r\n%b\r\n0\r\n\r\n" % (len(png), png))

    assert status == 200
    assert reply["digit"] in range(10)


def test_malformed_chunk_is_a_problem(service):
    status, problem = chunked(service, b"zz\r\nx\r\n0\r\n\r\n")

    assert status == 400
    assert problem["status"] == 400


@pytest.mark.parametrize("excess", [1, 2**20])
def test_chunked_body_over_the_limit_is_refused(service, excess):
    size = DEFAULT_LIMITS.max_bytes + excess

    status, problem = chunked(service, b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size)))

    assert status == 413
    assert f"{DEFAULT_LIMITS.max_bytes:,}" in problem["detail"]


def test_error_of_the_server_itself_has_what_clients_of_the_protocol_read():
    too_large = "-H", "Content-Length: 99999999"
    with running_service() as service:
        for path in ("/predict", "/v2/models/digits/infer"):
            status, _, body = curl("-d", "x", *too_large, f"{service.url}{path}")
            reply = json.loads(body)
            assert status == 413
            assert ("error" in reply) == path.startswith("/v2")
            assert reply.get("error", reply["detail"]) == reply["detail"]
        curl(f"{service.url}/v2/models/digits/versions/x/ready")
        metrics = curl(f"{service.url}/metrics")[2]

    labels = 'method="GET",route="/v2/models/digits/ready",status="404"'
    assert f"digits_requests_total{{{labels}}} 1.0" in metrics.splitlines()
