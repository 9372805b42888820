"""Hostile HTTP requests."""

import functools
from collections.abc import Iterator

from benchmarks.hostile import drawn

DISPOSITION = b'Content-Disposition: form-data; name="%s"; filename="%s"'


def requests() -> Iterator[tuple[str, bytes]]:
    """Yield malformed, huge or unusual requests, each for its own connection."""
    yield from _bad_values()
    yield from _bad_framing()
    yield from _bad_paths()
    yield from _bad_bodies()
    yield from _bad_heads()


@functools.cache
def picture() -> bytes:
    """Return a valid PNG."""
    return drawn("PNG")


def post(
    body: bytes | None = None,
    kind: bytes = b"image/png",
    more: bytes = b"",
    path: bytes = b"/predict",
    length: bytes | None = None,
) -> bytes:
    """Return a POST of the body, by default a valid PNG.

    length: the Content-Length to claim, if not the real one; more: further headers.
    """
    body = picture() if body is None else body
    size = str(len(body)).encode() if length is None else length
    return (
        b"POST " + path + b" HTTP/1.1\r\nHost: digits\r\nConnection: close\r\n"
        b"Content-Type: " + kind + b"\r\nContent-Length: " + size + b"\r\n" + more + b"\r\n" + body
    )


def form(part: bytes, boundary: bytes = b"b", n: int = 1) -> bytes:
    """Return a POST of a multipart form of n parts; part: the head of each."""
    whole = (b"--b\r\n" + part + b"\r\n\r\n" + picture() + b"\r\n") * n + b"--b--\r\n"
    return post(whole, b"multipart/form-data; boundary=" + boundary)


def get(path: bytes, method: bytes = b"GET", more: bytes = b"") -> bytes:
    """Return a request without a body; more: further header lines."""
    return (
        method + b" " + path + b" HTTP/1.1\r\nHost: digits\r\n"
        b"Connection: close\r\n" + more + b"\r\n"
    )


def _bad_values() -> Iterator[tuple[str, bytes]]:
    """Yield requests with each hostile text in each place that takes one."""
    for name, text in {
        "line break": b"a\r\nX: y",
        "nul": b"a\0b",
        "8 kB": b"a" * 8192,
        "quote": b'a\\"b',
        "path": b"../../etc/passwd",
        "not utf-8": b"\xff\xfe",
        "template": b"{{7*7}}${7*7}",
        "markup": b"<script>alert(1)</script>",
    }.items():
        yield f"{name} in a file's name", form(DISPOSITION % (b"image", text))
        yield f"{name} in a field's name", form(DISPOSITION % (text, b"x.png"))
        yield f"{name} in a boundary", form(DISPOSITION % (b"image", b"x"), text)
        yield f"{name} in an id", post(more=b"X-Request-ID: " + text + b"\r\n")
        yield f"{name} in a key", post(more=b"Authorization: Bearer " + text + b"\r\n")
        yield f"{name} in traceparent", post(more=b"traceparent: " + text + b"\r\n")
        yield f"{name} in Accept", post(more=b"Accept: " + text + b"\r\n")
        yield f"{name} in a type", post(kind=text)
        yield f"{name} in a path", get(b"/" + text)
        yield f"{name} in a query", post(path=b"/predict?explain=" + text)
        yield f"{name} in a method", get(b"/", b"GE" + text)
        yield f"{name} in a header's name", post(more=b"X" + text + b": y\r\n")


def _bad_framing() -> Iterator[tuple[str, bytes]]:
    """Yield requests with a bad method, Content-Length or Transfer-Encoding."""
    for method in (b"PUT", b"DELETE", b"TRACE", b"CONNECT", b"BREW", b"get", b"PRI"):
        yield f"method {method.decode()}", get(b"/predict", method)
    for length in (b"-1", b"+9", b"0x10", b"9" * 40, b"1e3", b"", b"9, 9", b"1 2"):
        yield f"Content-Length {length.decode()}", post(length=length)
    for coding in (b"gzip", b"chunked, chunked", b"xchunked", b"chunked\x0b", b"identity"):
        yield (
            f"Transfer-Encoding {coding!r}",
            post(more=b"Transfer-Encoding: " + coding + b"\r\n"),
        )


def _bad_paths() -> Iterator[tuple[str, bytes]]:
    for path in (b"*", b"http://x/livez", b"//livez", b"/%00", b"/%ff", b"/.", b"livez"):
        yield f"path {path.decode()}", get(path)
    for path in (b"/../../etc/passwd", b"/style.css/../app.py", b"/" + b"a/" * 4000):
        yield f"path {path[:20].decode()}", get(path)


def _bad_bodies() -> Iterator[tuple[str, bytes]]:
    yield "10,000 parts", form(DISPOSITION % (b"image", b"x.png"), n=10_000)
    yield "part without headers", form(b"")
    yield "parts within parts", form(b"Content-Type: multipart/mixed; boundary=b")
    yield "no boundary", form(DISPOSITION % (b"image", b"x"), b"")
    yield "another boundary", form(DISPOSITION % (b"image", b"x"), b"c")
    yield "form without parts", post(b"x" * 1000, b"multipart/form-data; boundary=b")
    yield ("npy of objects", post(b"\x93NUMPY\1\0\x0a\0{'descr':1}", b"application/x-npy"))
    yield (
        "npy of 4 billion",
        post(
            b"\x93NUMPY\1\0\x76\0{'descr': '|u1', 'fortran_order': False, "
            b"'shape': (4000000000, 28, 28)}".ljust(127)
            + b"\n",
            b"application/x-npy",
        ),
    )
    yield "bytes that are not images", post(b"x" * 783, b"application/octet-stream")


def _bad_heads() -> Iterator[tuple[str, bytes]]:
    """Yield requests with bad headers, and data that is not HTTP/1.1."""
    yield "1,000 headers", post(more=b"X-A: b\r\n" * 1000)
    yield "header of 100 kB", post(more=b"X-A: " + b"b" * 100_000 + b"\r\n")
    yield "folded header", post(more=b"X-A: b\r\n c\r\n")
    yield "two lengths", post(more=b"Content-Length: 3\r\n")
    yield "two hosts", get(b"/livez", more=b"Host: other\r\n")
    yield "TLS", b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(200)
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50)
    yield "HTTP/0.9", b"GET /livez\r\n\r\n"
    yield "WebSocket", get(b"/", more=b"Upgrade: websocket\r\nConnection: Upgrade\r\n")
    yield "line breaks only", b"\r\n" * 1000
    yield "zeros only", bytes(1000) + b"\r\n\r\n"
