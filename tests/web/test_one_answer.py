"""One answer for the same bytes: by the fast path or Flask, whatever the headers say."""

import base64
import http.client
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import default_exceptions

from service.web.problems import fields
from tests.conftest import Service, curl, encode, running_service

# the fast path steps aside for it, and Flask's reply is the same with it
ASIDE = b"Accept: application/json, application/x-npy;q=0\r\n"
MORE = b"\0"  # where more headers are inserted; no head of these tests contains it
DEFAULT_TEXTS = {error.description for error in default_exceptions.values()} - {None}


@pytest.fixture(scope="module")
def ours(weights: Path) -> Iterator[Service]:
    with running_service(DIGITS_WEIGHTS=str(weights), WEB_CONCURRENCY="1") as service:
        yield service


@pytest.fixture(scope="module")
def png(drawn) -> bytes:
    return encode(drawn.test.images[0])


def exchange(service: Service, data: bytes, step: int = 2**20) -> tuple[int, str, bytes]:
    """Send bytes as they are, `step` at a time; return status, content type and body."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step):
            client.sendall(data[start : start + step])
        reply = http.client.HTTPResponse(client, method=data.partition(b" ")[0].decode())
        reply.begin()
        return reply.status, reply.headers["Content-Type"], reply.read()


def request(body: bytes, line: bytes = b"POST /predict HTTP/1.1", *lines: bytes) -> bytes:
    more = b"".join(each + b"\r\n" for each in lines)
    length = b"Content-Length: %d\r\n" % len(body)
    return line + b"\r\n" + more + length + MORE + b"\r\n" + body


PNG = b"Content-Type: image/png"
POST = b"POST /predict HTTP/1.1"
HOSTS = [
    *(b"digits", b"digits:8000", b"127.0.0.1", b"[::1]", b"[::1]:80", b"a..b", b".", b"a.", b".a"),
    *(b"a" * 63, b"a" * 64, b"a" * 70, b"a" * 70 + b".b", b"b." + b"a" * 70, b"a." * 99 + b"b"),
    *(b"", b"a:b", b"a:", b":80", b"a:0", b"a:99999", b"a:80:80", b"me@digits", b"my_digits"),
    *(b"[", b"[]", b"[::1", b"::1", b"%61", b"a/b", b"a,b", b"*", b"-", b"xn--a", b"A.B", b"a b"),
    *(b"\xc3\xbc", b"0x7f.1", b"1.2.3", b"[::ffff:1.2.3.4]", b"a;b", b"'a'", b"~", b"a?b"),
]
HEADS = [
    *((POST, b"Host: " + host) for host in HOSTS),
    *((POST, b"Host: " + b"a" * n + b":65535") for n in (57, 58, 62, 63, 64)),
    (POST,),
    (b"POST /predict HTTP/1.0",),
    (POST, b"Host: a", b"Host: b"),
    (POST, b"Host: a", b"Upgrade: websocket", b"Connection: Upgrade"),
    (POST, b"Host: a", b"Upgrade: WebSocket", b"Connection: keep-alive, upgrade"),
    (POST, b"Host: a", b"Upgrade: websocket"),
    (POST, b"Host: a", b"Connection: upgrade"),
    (POST, b"Host: a", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"),
    (POST, b"Host: a", b"Expect: 100-continue"),
    (POST, b"Host: a", b"Expect: more"),
    (POST, b"Host: a", b"Content-Encoding: gzip"),
    (POST, b"Host: a", b"Content-Type: image/png"),
    (POST, b"Host: a", b"Content-Length: 5"),
    (POST, b"Host: a", b"Transfer-Encoding: chunked"),
    (POST, b"Host: a", b"X-HTTP-Method-Override: GET"),
    (POST, b"Host: a", b"Range: bytes=0-3"),
    (POST, b"Host: a", b"If-Match: x"),
    (POST, b"Host: a", b"Cookie: session=x"),
    *(
        (method + b" /predict HTTP/1.1", b"Host: a")
        for method in (b"post", b"Post", b"PUT", b"PATCH", b"QUERY", b"OPTIONS", b"TRACE", b"X-Y")
    ),
    *(
        (b"POST " + path + b" HTTP/1.1", b"Host: a")
        for path in (
            *(b"/predict?", b"/predict?x", b"/predict?explain=0", b"/predict#x", b"/predict/"),
            *(b"/%70redict", b"/predict%00", b"/predict;x", b"//predict", b"/./predict"),
            *(b"/x/../predict", b"/predict%2F", b"/Predict", b"/predict?timing=2", b"/predict??"),
            *(b"http://b/predict", b"http://a..b/predict", b"https://b:1/predict", b"predict"),
        )
    ),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: b" | ".join(head).decode("latin-1"))
def test_fast_path_and_flask_answer_the_same_request_alike(ours, png, head):
    line, *lines = head
    form = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        + png
        + b"\r\n--b--\r\n"
    )
    for body, kind in ((png, PNG), (form, b"Content-Type: multipart/form-data; boundary=b")):
        sent = request(body, line, *lines, kind, b"X-Request-ID: same")
        fast, flask = (exchange(ours, sent.replace(MORE, more, 1)) for more in (b"", ASIDE))

        assert fast == flask
        status, media_type, content = fast
        assert status < 500
        if status != 200 and line[:7] != b"OPTIONS":
            assert media_type == "application/problem+json"
            assert not any(text in json.loads(content)["detail"] for text in DEFAULT_TEXTS)


ODD = st.text("ab.-:[]1%/@_,; \t\xe9", max_size=70).map(lambda text: text.encode("latin-1"))
NAMES = [b"Host", b"Connection", b"Upgrade", b"Expect", b"Accept", b"Content-Type", b"X-API-Key"]
VALUES = [b"websocket", b"upgrade", b"*/*", b"image/png", b"application/x-npy", b"keep-alive", b""]
LINES = st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | ODD).map(b": ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=4), st.sampled_from([b"", b"?", b"/", b"#a", b"%20", b"?a=b"]))
def test_fast_path_and_flask_answer_random_heads_alike(ours, png, lines, end):
    line = b"POST /predict" + end + b" HTTP/1.1"
    sent = request(png, line, *lines, b"X-Request-ID: same")
    if any(b"npy" in each for each in lines):
        return  # Flask would see another Accept with ASIDE

    fast, flask = (exchange(ours, sent.replace(MORE, more, 1)) for more in (b"", ASIDE))

    assert fast == flask
    assert fast[0] < 500


@pytest.mark.parametrize("kind", sorted(default_exceptions))
def test_no_error_has_the_text_that_werkzeug_gives_every_application(client, kind):
    class Fails(default_exceptions[kind]):
        pass

    with client.application.test_request_context("/predict", method="POST"):
        detail = fields(Fails())["detail"]

    assert detail
    assert detail not in DEFAULT_TEXTS


def test_host_and_websocket_refusals_say_what_was_wrong(ours, png):
    for lines, words in (
        ((b"Host: a..b",), ["Host", "'a..b'"]),
        ((b"Host: a", b"Upgrade: websocket", b"Connection: upgrade"), ["WebSocket", "Upgrade"]),
    ):
        sent = request(png, POST, *lines, PNG).replace(MORE, b"", 1)
        status, _, content = exchange(ours, sent)
        assert status == 400
        for word in words:
            assert word in json.loads(content)["detail"]


@pytest.mark.parametrize("step", [7, 2**20])
@pytest.mark.parametrize("digits", [16, 17, 40])
def test_chunk_sizes_get_one_answer_however_their_bytes_arrive(ours, png, digits, step):
    size = (b"%x" % len(png)).zfill(digits)
    body = size + b"\r\n" + png + b"\r\n0\r\n\r\n"
    head = POST + b"\r\nHost: a\r\n" + PNG + b"\r\nTransfer-Encoding: chunked\r\n\r\n"

    status, _, content = exchange(ours, head + body, step)

    assert status == (200 if digits <= 16 else 400)
    if status == 400:
        assert "invalid chunk size" in json.loads(content)["detail"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_body_that_begins_like_a_picture_is_one_whatever_its_type(service, drawn, tmp_path, kind):
    path = tmp_path / "digit"
    path.write_bytes(encode(drawn.test.images[0], kind))
    url = f"{service.url}/predict"
    expected = curl("-F", f"image=@{path}", url)
    assert expected[0] == 200

    def post(*arguments: str) -> tuple[int, str, str]:
        return curl(*arguments, url)

    for replies in (
        post("--data-binary", f"@{path}"),
        post("-T", str(path), "-X", "POST"),
        *(
            post("--data-binary", f"@{path}", "-H", f"Content-Type:{named}")
            for named in (
                *("", "image/tiff", "application/octet-stream", "application/x-npy", "text/plain"),
                *("multipart/form-data; boundary=b", "application/json", "nonsense"),
            )
        ),
        # without a filename, with another field, with another type
        post("-F", f"image=<{path};type=image/png") if kind == "JPEG" else expected,
        post("-F", f"image=@{path};type=text/plain"),
    ):
        assert replies == expected


def nameless(png: bytes, *more: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="image"\r\n'
    parts = [head + b"\r\n" + png + b"\r\n", *more]
    return b"".join(parts) + b"--b--\r\n"


def test_file_part_without_a_filename_is_a_picture_if_it_begins_like_one(client, drawn):
    png = encode(drawn.test.images[0])
    large = encode(drawn.test.images[1].repeat(12, 0).repeat(12, 1), "BMP")
    note = b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nseven\r\n'
    other = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n%b\r\n'
    form = "multipart/form-data; boundary=b"
    expected = [
        client.post("/predict", data=each, content_type="image/png").json for each in (png, large)
    ]

    for body in (nameless(png), nameless(png, note)):
        assert client.post("/predict", data=body, content_type=form).json == expected[0]
    assert client.post("/predict", data=nameless(large), content_type=form).json == expected[1]
    both = client.post("/predict", data=nameless(png, other % large), content_type=form).json
    assert [each["digit"] for each in both["predictions"]] == [each["digit"] for each in expected]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["-F", "image=digit.png"], 400, ["'image' is the text 'digit.png'", "image=@digit.png"]),
        (["-F", "file=a b.jpg"], 400, ["-F file=@a b.jpg"]),
        (["-F", "image="], 400, ["'image' is the text ''", "-F image=@digit.png"]),
        (
            ["--form-string", "image=data:image/png;base64,iVBORw0KGgo="],
            400,
            ["not a file", "data: URI"],
        ),
        (["-F", "image=iVBORw0KGgoAAAA"], 400, ["base64", "decode"]),
        (["-d", "image=@digit.png"], 415, ["URL-encoded form", "-F"]),
        (["-d", "data:image/png;base64,iVBORw0KGgo="], 415, ["data: URI", "base64"]),
        (["-d", "iVBORw0KGgoAAAANSUhEUg"], 415, ["base64"]),
        (
            ["-d", '["iVBORw0KGgo="]', "-H", "Content-Type: application/json"],
            400,
            ["the JSON is", "send an object"],
        ),
        (["-d", "iVBORw0KGgoAAAANSUhEUg", "-H", "Content-Type: image/png"], 415, ["base64"]),
        (["-d", "https://example.org/7.png"], 415, ["URL", "downloads nothing"]),
        (["-d", "hello there"], 415, ["unsupported content type"]),
    ],
)
def test_text_in_place_of_a_picture_is_named_with_what_to_do(service, arguments, status, words):
    found, kind, body = curl(*arguments, f"{service.url}/predict")

    assert (found, kind) == (status, "application/problem+json")
    for word in words:
        assert word in json.loads(body)["detail"]


def test_picture_sent_with_curl_d_is_told_of_data_binary(service, png, tmp_path):
    path = tmp_path / "digit.png"
    path.write_bytes(png)

    status, _, body = curl("-d", f"@{path}", f"{service.url}/predict")

    assert status == 415
    assert "--data-binary" in json.loads(body)["detail"]


def test_base64_file_in_a_form_is_named_in_its_slot(client, png):
    files = [(each, "x") for each in (png, base64.b64encode(png))]
    data = {"image": [(io.BytesIO(content), name) for content, name in files]}
    slots = client.post("/predict", data=data).json["predictions"]

    assert "digit" in slots[0]
    assert "base64" in slots[1]["error"]["detail"]
