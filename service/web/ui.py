"""The drawing page, the API reference and their script and style sheet."""

import functools
from http import HTTPStatus
from pathlib import Path

from flask import Blueprint, Response, render_template, request

from service.web.extension import extension
from service.web.openapi import METHODS, WORKERS_OWN, describe

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
# only files of this service may be loaded, and no inline script may run
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

pages = Blueprint("pages", __name__)


@pages.get("/docs")
def docs() -> Response:
    """Render /openapi.json as HTML."""
    document = describe(extension().limits)
    operations = [
        (path, method.upper(), item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    page = render_template(
        "docs.html",
        document=document,
        operations=operations,
        any_request=[str(int(status)) for status in WORKERS_OWN],
    )
    return _answer(page.encode(), "text/html")


@pages.get("/")
def page() -> Response:
    """Return the page that classifies drawn digits and pictures."""
    return _answer(_file(FOLDER / "templates" / "index.html"), "text/html")


@pages.get("/script.js")
def script() -> Response:
    """Return the script of that page."""
    return _answer(_file(STATIC / "script.js"), "text/javascript")


@pages.get("/style.css")
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
