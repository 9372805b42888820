"""Errors as RFC 9457 problem documents, Flask's own errors among them."""

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import (
    HTTPException,
    InternalServerError,
    RequestEntityTooLarge,
)

from service.server.wsgi_keys import REQUEST_ID

_log = logging.getLogger(__name__)
# of every reply: none of ours is a page, to be framed, or to be guessed the type of
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
MEDIA_TYPE = "application/problem+json"
OUR_FAULT = "the service failed on this request; the fault is ours"


class Problem(HTTPException):
    """A refusal with the status `code` and a `description` that says what to do."""

    def __init__(self, code: HTTPStatus, description: str) -> None:
        super().__init__(description)
        self.code = self.status = code

    def get_headers(self, *about: Any) -> list[tuple[str, str]]:
        """Name what the client is to do, for the statuses that have a header for it."""
        headers = super().get_headers(*about)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        elif self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", "1"))
        return headers


def init_app(app: Flask) -> None:
    """Make the app answer every error with a problem document."""
    app.after_request(_make_safe)
    app.register_error_handler(HTTPException, _answer)
    app.register_error_handler(Exception, _answer_unexpected)


def _make_safe(response: Response) -> Response:
    for name, value in SAFETY.items():
        response.headers.setdefault(name, value)
    return response


def _answer(error: HTTPException) -> Response:
    # the error's own response carries its headers, such as Allow and Retry-After
    response = Response(headers=error.get_headers(request.environ))
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    response.status_code = status
    response.content_type = MEDIA_TYPE
    response.data = document(status, _detail(error, status))
    return response


def fields(status: HTTPStatus, detail: str) -> dict[str, object]:
    """Tell a problem in the words of RFC 9457."""
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": detail,
    }


def error_reply(status: HTTPStatus, detail: str) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of a reply that the worker refuses with."""
    return [*SAFETY.items(), ("Content-Type", MEDIA_TYPE)], document(status, detail)


def document(status: HTTPStatus, detail: str) -> bytes:
    """Write a problem as the body of a reply."""
    return json.dumps(fields(status, detail)).encode() + b"\n"


def _detail(error: HTTPException, status: HTTPStatus) -> str:
    """Say what was wrong with this request, where the framework only says what is."""
    if status == HTTPStatus.NOT_FOUND:
        return f"{request.path} is not here; POST a picture to /predict"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return f"{request.method} is not allowed on {request.path}; use {allowed}"
    if type(error) is RequestEntityTooLarge:
        config = current_app.config
        return (
            f"the request is larger than {config['MAX_CONTENT_LENGTH']:,} bytes, or "
            f"its form has more than {config['MAX_FORM_PARTS']} parts or "
            f"{config['MAX_FORM_MEMORY_SIZE']:,} bytes beside the files; send less"
        )
    return error.description or status.phrase


def _answer_unexpected(error: Exception) -> Response:
    """Log a bug of ours with its traceback, and answer without it."""
    name = request.environ.get(REQUEST_ID)
    _log.error("unexpected error on request %s", name, exc_info=error)
    return _answer(InternalServerError(OUR_FAULT))
