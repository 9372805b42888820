"""The drawing page, the API reference and their script and style sheet."""

from http import HTTPStatus
from pathlib import Path

from flask import Response, render_template, request
from werkzeug.exceptions import NotFound
from werkzeug.http import generate_etag

from service.server.wsgi_keys import ROUTE
from service.web import openapi
from service.web.extension import extension

# of openapi.json: the metrics count all modules as one, and all sheets
MODULE_ROUTE, SHEET_ROUTE = "/{module}.js", "/{sheet}.css"
FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
# files in the folder, which a request must not choose by a path
MODULES = ("answer", "client", "crop", "drawing", "evidence", "examples", "page", "pictures")
SHEETS = ("docs", "style")
# only files of this service may be loaded, and no inline script may run
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs() -> Response:
    """Render /openapi.json as HTML."""
    document = openapi.describe(extension().limits)
    html = render_template("docs.html", document=document, openapi=openapi)
    return _answer(html.encode(), "text/html")


def page() -> Response:
    """Return the page that classifies drawn digits and pictures."""
    return _answer((FOLDER / "templates" / "index.html").read_bytes(), "text/html")


def script(module: str) -> Response:
    """Return a module of that page's script."""
    if module not in MODULES:
        raise NotFound
    request.environ[ROUTE] = MODULE_ROUTE
    return _answer((STATIC / f"{module}.js").read_bytes(), "text/javascript")


def style(sheet: str) -> Response:
    """Return a style sheet: that of all pages, or what the API reference adds."""
    if sheet not in SHEETS:
        raise NotFound
    request.environ[ROUTE] = SHEET_ROUTE
    return _answer((STATIC / f"{sheet}.css").read_bytes(), "text/css")


def add_slash() -> Response | None:
    """Redirect from a path prefix without a final slash, so that relative links work.

    Werkzeug would redirect to the scheme and host that it sees, which are not the proxy's.
    """
    if request.environ["PATH_INFO"] or not request.script_root:
        return None
    location = {"Location": f"{request.script_root}/"}
    return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=location)


def _answer(body: bytes, mimetype: str) -> Response:
    """Return a 200 with the body, or a 304 if the request names its ETag."""
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    response = Response(body, headers=headers, mimetype=mimetype)
    response.set_etag(etag := generate_etag(body))
    # not make_conditional, which applies If-Match too
    if request.if_none_match.contains_weak(etag):
        response.status_code = HTTPStatus.NOT_MODIFIED  # Werkzeug then sends no body
    return response
