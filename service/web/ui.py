"""The drawing page, the API reference and their script and style sheet."""

import functools
from http import HTTPStatus
from pathlib import Path

from flask import Response, render_template, request

from service.web.extension import extension
from service.web.openapi import ANY_REQUEST, describe

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
# only files of this service may be loaded, and no inline script may run
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def docs() -> Response:
    """Render /openapi.json as HTML."""
    document = describe(extension().limits)
    operations = [
        (path, method.upper(), operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    page = render_template(
        "docs.html", document=document, operations=operations, any_request=ANY_REQUEST
    )
    return _answer(page.encode(), "text/html")


def page() -> Response:
    """Return the page that classifies drawn digits and pictures."""
    return _answer(_file(FOLDER / "templates" / "index.html"), "text/html")


def script() -> Response:
    """Return the script of that page."""
    return _answer(_file(STATIC / "script.js"), "text/javascript")


def style() -> Response:
    """Return the style sheet of all pages."""
    return _answer(_file(STATIC / "style.css"), "text/css")


@functools.cache
def _file(path: Path) -> bytes:
    return path.read_bytes()


def _answer(body: bytes, mimetype: str) -> Response:
    """Return a 200 with the body, or a 304 if the request names its ETag."""
    response = Response(body, mimetype=mimetype)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    tag, _ = response.get_etag()
    if tag and request.if_none_match.contains_weak(tag):
        response.status_code = HTTPStatus.NOT_MODIFIED
        response.data = b""
        del response.headers["Content-Length"]
    return response
