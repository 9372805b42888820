"""Cross-origin requests: CORS headers, and the refusal of POSTs from pages of other sites."""

from http import HTTPStatus
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden, MethodNotAllowed

from service.server.wsgi_keys import FORWARDED_HOSTS
from service.settings import ANY_ORIGIN, without_default_port
from service.web.problems import SHOWN

CROSS_SITE = "cross-site"  # in Sec-Fetch-Site (W3C, Fetch Metadata), which only browsers send
METHOD = "Access-Control-Request-Method"
ALLOW_ORIGIN = "Access-Control-Allow-Origin"
PREFLIGHT = {
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Encoding, Content-Type, "
    "Inference-Header-Content-Length, traceparent, X-API-Key, X-Request-ID",
    # seconds for which a browser may remember a preflight; Chrome's maximum
    "Access-Control-Max-Age": "7200",
}
EXPOSED = "Inference-Header-Content-Length, Retry-After, Server-Timing, X-Request-ID"


class Cors:
    """The origins whose pages may use the service from a browser; `*` means any."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        # of every reply: which origins it allows depends on the request
        self.headers = [("Vary", "Origin")] if allowed and ANY_ORIGIN not in allowed else []

    def allows(self, origin: str) -> bool:
        """Return whether pages of this origin may use the service."""
        return ANY_ORIGIN in self.allowed or origin in self.allowed

    def headers_for(self, origin: str) -> list[tuple[str, str]]:
        """Return the headers of a reply to a page of this origin; empty is no page."""
        if not origin or not self.allows(origin):
            return self.headers
        allowed = origin if self.headers else ANY_ORIGIN
        return [*self.headers, (ALLOW_ORIGIN, allowed), ("Access-Control-Expose-Headers", EXPOSED)]


def is_cross_site(environ: WSGIEnvironment) -> bool:
    """Return whether a page of another site sent a request.

    Browsers send Sec-Fetch-Site over https and to loopback addresses. Without it, the origin
    of the page is compared with the host that it asked, whose TLS a proxy may terminate.
    """
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    if site or not origin:
        return site == CROSS_SITE
    hosts = environ.get("HTTP_HOST", ""), *environ.get(FORWARDED_HOSTS, ())
    schemes = environ["wsgi.url_scheme"], "https"
    own = {f"{scheme}://{host}".lower() for scheme in schemes for host in hosts if host}
    return origin not in map(without_default_port, own)


def init_app(app: Flask, cors: Cors) -> None:
    """Answer preflights, refuse POSTs from pages of other sites, and add CORS headers."""

    @app.before_request
    def check_origin() -> Response | None:
        is_allowed = cors.allows(request.headers.get("Origin", ""))
        if request.method == "POST" and not is_allowed and is_cross_site(request.environ):
            raise Forbidden(_refusal(request.headers.get("Origin", "")))
        error = request.routing_exception  # no route has the method OPTIONS
        is_preflight = request.method == "OPTIONS" and METHOD in request.headers
        if not (is_allowed and is_preflight and isinstance(error, MethodNotAllowed)):
            return None
        headers = {
            "Access-Control-Allow-Methods": ", ".join(sorted(error.valid_methods or ())),
            **PREFLIGHT,
        }
        return Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.extend(cors.headers_for(request.headers.get("Origin", "")))
        return response


def _refusal(origin: str) -> str:
    """Return why a POST is refused, and what allows it."""
    if origin in ("", "null"):  # of a sandboxed frame or of a file
        found, setting = "without an origin", f"set DIGITS_ALLOWED_ORIGINS to {ANY_ORIGIN}"
    else:
        found, setting = f"from {origin[:SHOWN]!r}", "add this origin to DIGITS_ALLOWED_ORIGINS"
    return f"a page of another site sent this request, {found}; the operator may {setting}"
