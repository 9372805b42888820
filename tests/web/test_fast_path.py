"""The way past Flask, held to Flask's own answer to the same bytes."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from service.app import create_app
from service.images import read_image, read_mnist_png
from service.server.wsgi_keys import DEFER
from service.web.fast_path import MAX_QUICK_BYTES
from tests.conftest import encode

TYPE = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def door(classifier):
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


def is_quick(door, request: dict) -> bool:
    deferred = object()
    body = door(request | {DEFER: lambda call: deferred}, lambda *_: None)
    if body is deferred:
        return False
    body.close()
    return True


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """Put a chunk behind the header of a PNG."""
    crc = zlib.crc32(kind + data)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    return png[:33] + chunk + png[33:]


def test_plain_request_is_quick_and_answered_as_by_flask(door, upload):
    for body, kind in ((form(upload), TYPE), (upload, "image/png")):
        assert is_quick(door, environ(body, kind))
        theirs = call(door.application, environ(body, kind))
        assert call(door, environ(body, kind)) == theirs
        assert theirs[0] == "200 OK"


def test_what_is_not_plain_is_left_to_flask(door, upload, drawn):
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
        assert not is_quick(door, ours), ours["wsgi.input"].getvalue()
        ours["wsgi.input"].seek(0)
        assert call(door, ours) == call(door.application, theirs)


@pytest.mark.parametrize("path", ["/", "/livez", "/predict/"])
def test_other_paths_are_left_to_flask_and_may_be_asked_of_a_loop(door, path):
    request = environ(b"", PATH_INFO=path, REQUEST_METHOD="GET")

    assert is_quick(door, request)
    assert call(door, request)[2] == call(door.application, request)[2]


def test_long_body_is_not_even_read(door, upload):
    request = environ(form(upload + bytes(MAX_QUICK_BYTES)))

    assert not is_quick(door, request)
    assert request["wsgi.input"].tell() == 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pictures_get_the_answer_of_flask(door, upload, data):
    damaged = bytearray(upload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3)
        )
    body = form(bytes(damaged))

    assert call(door, environ(body)) == call(door.application, environ(body))


def test_pngs_read_the_quick_way_are_what_read_image_gives(digits):
    for image in digits.test.images[:200]:
        upload = encode(image)
        np.testing.assert_array_equal(read_mnist_png(upload), image)
        np.testing.assert_array_equal(read_image(upload), image)


def test_requests_that_come_together_get_the_answers_they_get_alone(door, drawn):
    bodies = [form(encode(image)) for image in drawn.test.images[:40]]
    alone = [call(door, environ(body))[2] for body in bodies]

    begun = [door(environ(body), lambda *_: None) for body in bodies]
    begun[3].close()  # its client has left
    together = [b"".join(reply) for i, reply in enumerate(begun) if i != 3]

    assert together == alone[:3] + alone[4:]
    assert door.waiting == []
