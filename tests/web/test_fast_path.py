"""The fast path, held to Flask's own replies to the same bytes."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from service.app import create_app
from service.classifier import Classifier, Scores
from service.images import read_image, read_mnist_png
from service.server.wsgi_keys import ADMIT, DEFER, IS_CANCELLED, REQUEST_ID
from service.settings import read_settings
from service.web.auth import AUTHORIZED
from service.web.fast_path import MAX_SHORT_BYTES, UPLOADS
from tests.conftest import encode

TYPE = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def fast_path(classifier):
    return create_app(classifier).wsgi_app


@pytest.fixture(scope="module")
def upload(drawn) -> bytes:
    return encode(drawn.test.images[0])


def form(upload: bytes) -> bytes:
    head = b'Content-Disposition: form-data; name="image"; filename="7.png"\r\n\r\n'
    return b"--b\r\n" + head + upload + b"\r\n--b--\r\n"


def environ(body: bytes, kind: str = TYPE, **more: str) -> dict:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "QUERY_STRING": "",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body)),
    } | more


def call(application, environ: dict) -> tuple[str, dict[str, str], bytes]:
    """Call a WSGI application as a server does."""
    started: list = []
    body = application(environ, lambda *start: started.append(start))
    try:
        data = b"".join(body)
    finally:
        getattr(body, "close", lambda: None)()
    ((status, headers, *_),) = started
    return status, dict(headers), data


def is_fast(fast_path, request: dict) -> bool:
    deferred = object()
    body = fast_path(request | {DEFER: lambda *_: deferred}, lambda *_: None)
    if body is deferred:
        return False
    body.close()
    return True


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """Insert a chunk after the header of a PNG."""
    crc = zlib.crc32(kind + data)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    return png[:33] + chunk + png[33:]


def test_only_a_request_for_one_picture_is_deferred_as_short(fast_path, drawn):
    other = encode(255 - drawn.test.images[0])
    noise = np.random.default_rng(0).integers(256, size=(1100, 1100), dtype=np.uint8)
    two = form(other).replace(b"--b--", b"--b" + form(other)[3:])
    kinds = {
        "a picture": environ(other, "image/png"),
        "a form": environ(form(other)),
        "two pictures": environ(two),
        "a picture to explain": environ(other, "image/png", QUERY_STRING="explain=1"),
        "a picture over 1 MiB": environ(encode(noise), "image/png"),
        "JSON": environ(b"{}", "application/json"),
    }

    def is_short(request: dict) -> bool:
        return bool(fast_path(request | {DEFER: lambda _, cost: cost}, lambda *_: None))

    assert [kind for kind, request in kinds.items() if is_short(request)] == list(kinds)[:2]


def test_simple_request_takes_the_fast_path_and_gets_the_reply_of_flask(fast_path, upload):
    for body, kind in ((form(upload), TYPE), (upload, "image/png")):
        assert is_fast(fast_path, environ(body, kind))
        theirs = call(fast_path.application, environ(body, kind))
        assert call(fast_path, environ(body, kind)) == theirs
        assert theirs[0] == "200 OK"


def test_unusual_request_takes_a_thread_and_gets_the_reply_of_flask(fast_path, upload, drawn):
    image = drawn.test.images[0]
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "seven")
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = [
        255 - image,
        np.pad(image, 1),
        np.roll(image, 3, axis=0),
        Image.fromarray(image).convert("RGB"),
        Image.fromarray(image).convert("P"),
    ]
    uploads = [
        *map(encode, pictures),
        encode(np.kron(255 - image, np.ones((9, 9), np.uint8)), "JPEG"),
        encode(np.full((90, 90), 200, np.uint8)),
        encode(np.hstack([drawn.test.images[1], drawn.test.images[2]] * 2)),
        encode(image, "BMP"),
        encode(image, pnginfo=text),
        encode(image, exif=turned),
        encode(image, transparency=0),
        with_chunk(upload, b"tRNS", b"\0\xff"),
        upload[: len(upload) // 2],
        upload[:40],
        upload.replace(b"IDAT", b"iDAT"),
        b"x",
        b"",
    ]
    for requests in (
        *((environ(form(upload)), environ(form(upload))) for upload in uploads),
        *(
            (environ(form(upload), **more), environ(form(upload), **more))
            for more in (
                {"QUERY_STRING": "explain=1"},
                {"HTTP_ACCEPT": "application/x-npy"},
                {"HTTP_ACCEPT": "Application/X-NPY"},
                {"HTTP_HOST": "a" * 300},
                {"HTTP_HOST": "a b"},
                {"CONTENT_TYPE": 'multipart/form-data; boundary="b"'},
                {"CONTENT_TYPE": "image/jpeg"},
                {"CONTENT_LENGTH": ""},
            )
        ),
    ):
        ours, theirs = requests
        assert not is_fast(fast_path, ours), ours["wsgi.input"].getvalue()
        ours["wsgi.input"].seek(0)
        assert call(fast_path, ours) == call(fast_path.application, theirs)


@pytest.mark.parametrize("path", ["/", "/livez", "/predict/"])
def test_get_requests_run_flask_without_deferring(fast_path, path):
    request = environ(b"", PATH_INFO=path, REQUEST_METHOD="GET")

    assert is_fast(fast_path, request)
    assert call(fast_path, request)[2] == call(fast_path.application, request)[2]


def test_one_picture_of_any_size_is_answered_without_flask(classifier, drawn):
    fast_path = create_app(classifier).wsgi_app
    flask = fast_path.application
    fast_path.application = None
    canvas = encode(np.kron(drawn.test.images[0], np.ones((10, 10), np.uint8)))
    photo = encode(np.full((300, 300), 200, np.uint8), "JPEG")

    for upload in (canvas, photo, canvas + bytes(MAX_SHORT_BYTES), b"no picture"):
        for body, kind in ((form(upload), TYPE), (upload, "image/png")):
            if upload == b"no picture" and kind != TYPE:
                continue  # it is no picture by its content
            assert call(fast_path, environ(body, kind)) == call(flask, environ(body, kind))


def test_request_that_the_server_does_not_admit_is_refused_by_flask(fast_path, upload):
    body = form(encode(np.zeros((40, 40), np.uint8)))

    status, headers, _ = call(fast_path, environ(body) | {ADMIT: lambda cost: cost < 1})

    assert status == "503 SERVICE UNAVAILABLE"
    assert headers["Retry-After"] == "1"


def test_picture_of_a_client_that_has_left_is_not_read(fast_path):
    body = form(encode(np.zeros((40, 40), np.uint8)))

    status, _, _ = call(fast_path, environ(body) | {IS_CANCELLED: lambda: True})

    assert status.startswith("400")  # never sent


def test_long_body_is_passed_on_unread(fast_path, upload):
    request = environ(form(upload + bytes(MAX_SHORT_BYTES)))

    assert not is_fast(fast_path, request)
    assert request["wsgi.input"].tell() == 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pictures_get_the_reply_of_flask(fast_path, upload, data):
    damaged = bytearray(upload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    body = form(bytes(damaged))

    assert call(fast_path, environ(body)) == call(fast_path.application, environ(body))


def test_fast_reading_of_a_png_equals_read_image(digits):
    for image in digits.test.images[:200]:
        upload = encode(image)
        np.testing.assert_array_equal(read_mnist_png(upload), image)
        np.testing.assert_array_equal(read_image(upload), image)


def test_a_png_with_any_byte_changed_is_read_as_by_read_image_or_not_fast(digits):
    upload = encode(digits.test.images[0])
    for at in range(len(upload)):
        damaged = upload[:at] + bytes([upload[at] ^ 1]) + upload[at + 1 :]
        image = read_mnist_png(damaged)
        if image is not None:
            np.testing.assert_array_equal(image, read_image(damaged))


def test_requests_of_one_batch_get_the_replies_they_get_alone(fast_path, drawn):
    bodies = [form(encode(image)) for image in drawn.test.images[:40]]
    alone = [call(fast_path, environ(body))[2] for body in bodies]

    begun = [fast_path(environ(body), lambda *_: None) for body in bodies]
    begun[3].close()  # its client has disconnected
    together = [b"".join(reply) for i, reply in enumerate(begun) if i != 3]

    assert together == alone[:3] + alone[4:]
    assert fast_path.waiting == []


def test_image_that_cannot_be_scored_fails_alone(classifier, drawn, caplog):
    images = drawn.test.images[:6]

    class FailsOnOne(Classifier):
        def score(self, batch: np.ndarray) -> Scores:
            if (batch == images[2]).all(axis=(1, 2)).any():
                raise ArithmeticError("cannot score this image")
            return super().score(batch)

    weight, bias, classes = classifier.weight, classifier.bias, classifier.classes
    app = create_app(FailsOnOne(weight, bias, classes, classifier.features))
    fast_path = app.wsgi_app
    requests = [
        environ(form(encode(image)), **{REQUEST_ID: f"id-{i}"}) for i, image in enumerate(images)
    ]

    started: dict[int, tuple] = {}
    bodies = [
        fast_path(request, lambda *start, i=i: started.update({i: start}))
        for i, request in enumerate(requests)
    ]
    assert len(fast_path.waiting) == len(images)
    replies = [b"".join(body) for body in bodies]

    for i, image in enumerate(images):
        theirs = call(fast_path.application, environ(form(encode(image))))
        assert (started[i][0], replies[i]) == (theirs[0], theirs[2])
        assert started[i][0][:3] == ("500" if i == 2 else "200")
    assert "request id-2" in caplog.messages[0]
    assert "ArithmeticError" in caplog.text
    assert fast_path.waiting == []


KEY = "s3cret"
SETTINGS = read_settings({"DIGITS_API_KEYS": hashlib.sha256(KEY.encode()).hexdigest()})


def test_request_that_is_passed_on_is_authorized_and_parsed_only_once(classifier, drawn):
    app = create_app(classifier, SETTINGS)
    fast_path, flask = app.wsgi_app, app.wsgi_app.application
    drawn_on_white = encode(255 - drawn.test.images[0])
    body = form(drawn_on_white)

    def application(environ: dict, start_response) -> object:
        assert environ[AUTHORIZED] is True
        assert [part.content for part in environ[UPLOADS]] == [drawn_on_white]
        # neither the keys nor the form can be read again
        fast_path.extension.api_keys.digests = ("0" * 64,)
        environ["wsgi.input"] = io.BytesIO(bytes(len(body)))
        return flask(environ, start_response)

    fast_path.application = application
    has_left = iter([True, False, False])
    request = environ(body, HTTP_X_API_KEY=KEY) | {IS_CANCELLED: lambda: next(has_left)}
    status, _, _ = call(fast_path, request)

    assert status == "200 OK"


def test_request_refused_by_the_fast_path_is_refused_by_flask_without_a_second_look(
    classifier, upload
):
    app = create_app(classifier, SETTINGS)
    flask = app.wsgi_app.application

    def application(environ: dict, start_response) -> object:
        app.wsgi_app.extension.api_keys.digests = ()  # would let everyone in
        return flask(environ, start_response)

    app.wsgi_app.application = application
    status, _, body = call(app.wsgi_app, environ(form(upload)))

    assert status == "401 UNAUTHORIZED"
    assert b"missing or unknown API key" in body


@pytest.mark.parametrize("name", [AUTHORIZED, AUTHORIZED.replace(".", "_")])
def test_header_of_a_client_cannot_pass_for_an_authorization(classifier, name):
    client = create_app(classifier, SETTINGS).test_client()

    for path in ("/predict", "/predict?explain=1", "/model"):
        method = "GET" if path == "/model" else "POST"
        reply = client.open(path, method=method, headers={name: "True"})
        assert reply.status_code == 401
