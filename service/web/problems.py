"""Errors as RFC 9457 problem documents."""

import json
import logging
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import (
    BadHost,
    ClientDisconnected,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnprocessableEntity,
)
from werkzeug.routing.exceptions import WebsocketMismatch

from service.server.wsgi_keys import INTERNAL_ERROR, REQUEST_ID

_log = logging.getLogger(__name__)
# headers of every reply; the pages replace the policy by their own
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
SHOWN = 60  # characters of an invalid value that a message shows
POST = "POST a picture to /predict"
MEDIA_TYPE = "application/problem+json"
# headers that a status requires
REQUIRED = {
    HTTPStatus.UNAUTHORIZED: [("WWW-Authenticate", "Bearer")],
    HTTPStatus.SERVICE_UNAVAILABLE: [("Retry-After", "1")],
}


class Refused(UnprocessableEntity):
    """A picture that is refused, and more members of its problem document."""

    def __init__(self, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.members = members


def init_app(app: Flask) -> None:
    """Make the application answer every error with a problem document."""
    app.after_request(_add_safety_headers)
    app.register_error_handler(HTTPException, _answer)
    app.register_error_handler(Exception, _answer_unexpected)


def _add_safety_headers(response: Response) -> Response:
    for name, value in SAFETY.items():
        response.headers.setdefault(name, value)
    return response


def _answer(error: HTTPException) -> Response:
    problem = fields(error)
    problem |= _protocol_members(request.path, problem["detail"])
    # the error's own headers include Allow
    headers = [*error.get_headers(request.environ), *REQUIRED.get(problem["status"], ())]
    return Response(write(problem), problem["status"], headers, content_type=MEDIA_TYPE)


def fields(error: HTTPException) -> dict[str, Any]:
    """Return the members of an error's problem document (RFC 9457), its own ones last."""
    status, detail = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR), _detail(error)
    members = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    return members | (error.members if isinstance(error, Refused) else {})


def error_reply(
    status: HTTPStatus, detail: str, environ: WSGIEnvironment
) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of an error that the server itself sends."""
    problem = fields(error_of(status, detail)) | _protocol_members(environ["PATH_INFO"], detail)
    return [*SAFETY.items(), ("Content-Type", MEDIA_TYPE)], write(problem)


def error_of(status: int, detail: str) -> HTTPException:
    """Return an error of any status."""
    error = HTTPException(detail)
    error.code = status
    return error


def _is_protocol(path: str) -> bool:
    """Return whether a path belongs to the Open Inference Protocol."""
    return f"{path}/".startswith("/v2/")


def _protocol_members(path: str, detail: str) -> dict[str, str]:
    """Return what clients of the Open Inference Protocol read of an error."""
    return {"error": detail} if _is_protocol(path) else {}


def write(problem: dict[str, Any]) -> bytes:
    """Return a problem document as JSON."""
    return json.dumps(problem).encode() + b"\n"


def _detail(error: HTTPException) -> str:
    """Return what is wrong with this request, in more detail than Werkzeug does."""
    if isinstance(error, BadHost):
        host = request.headers.get("Host", "")[:SHOWN]
        return f"the Host header is {host!r}, which is not a host name; send the server's name"
    # the description of this error; that of its class is Werkzeug's, for any application
    if "description" in vars(error):
        return str(error.description)
    if isinstance(error, NotFound):
        route = "the model is /v2/models/digits" if _is_protocol(request.path) else POST
        return f"{request.path} does not exist; {route}"
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"{request.method} is not allowed on {request.path}; use {allowed}"
    if isinstance(error, WebsocketMismatch):
        return "WebSocket is not supported; send the request without the header Upgrade"
    if isinstance(error, RequestEntityTooLarge):
        most = current_app.config["MAX_CONTENT_LENGTH"]
        return f"the request body is larger than {most:,} bytes; send less per request"
    if isinstance(error, ClientDisconnected):
        return "the request body ended before it was complete; send all of it"
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    return f"{request.method} {request.path}: {status.phrase.lower()}"


def _answer_unexpected(error: Exception) -> Response:
    """Log a fault of the service with its traceback; reply without it."""
    request_id = request.environ.get(REQUEST_ID)
    _log.error("unexpected error on request %s", request_id, exc_info=error)
    return _answer(InternalServerError(INTERNAL_ERROR))
