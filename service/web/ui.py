"""What people look at: pages and their style, from files that ship with the service."""

import functools
from http import HTTPStatus
from pathlib import Path

from flask import Response, render_template, request

from service.web.extension import extension
from service.web.openapi import ANY_REQUEST, describe

FOLDER = Path(__file__).parent
# a page loads nothing but its own files, and runs nothing but its own script
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def docs() -> Response:
    """Show /openapi.json to people."""
    document = describe(extension().limits)
    operations = [
        (path, method.upper(), operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    page = render_template(
        "docs.html",
        document=document,
        operations=operations,
        any_request=ANY_REQUEST,
    )
    return _answer(page.encode(), "text/html")


def page() -> Response:
    """Give the page on which to draw a digit and see what it is."""
    return _answer(_file("templates/index.html"), "text/html")


def script() -> Response:
    """Give what that page does."""
    return _answer(_file("static/script.js"), "text/javascript")


def style() -> Response:
    """Give the style of all pages."""
    return _answer(_file("static/style.css"), "text/css")


@functools.cache
def _file(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def _answer(body: bytes, mimetype: str) -> Response:
    """Send a file, or tell a browser that it has it already."""
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
