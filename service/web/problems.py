"""Errors as RFC 9457 problem documents."""

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, InternalServerError, RequestEntityTooLarge

from service.server.wsgi_keys import REQUEST_ID

_log = logging.getLogger(__name__)
# headers of every reply; the pages replace the policy by their own
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
MEDIA_TYPE = "application/problem+json"
OUR_FAULT = "internal server error: the service failed on this request"


class Problem(HTTPException):
    """An error reply; its `description` says what is wrong and what to do."""

    def __init__(self, code: HTTPStatus, description: str) -> None:
        super().__init__(description)
        self.code = self.status = code

    def get_headers(self, *args: Any) -> list[tuple[str, str]]:
        """Add the header that the status requires."""
        headers = super().get_headers(*args)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        elif self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", "1"))
        return headers


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
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    body = document(status, _detail(error, status))
    # such as Allow and Retry-After
    headers = error.get_headers(request.environ)
    return Response(body, status, headers, content_type=MEDIA_TYPE)


def fields(status: HTTPStatus, detail: str) -> dict[str, object]:
    """Return the members of a problem document (RFC 9457)."""
    return {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}


def error_reply(status: HTTPStatus, detail: str) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of an error that the server itself sends."""
    return [*SAFETY.items(), ("Content-Type", MEDIA_TYPE)], document(status, detail)


def document(status: HTTPStatus, detail: str) -> bytes:
    """Write a problem document."""
    return json.dumps(fields(status, detail)).encode() + b"\n"


def _detail(error: HTTPException, status: HTTPStatus) -> str:
    """Return what is wrong with this request, in more detail than Werkzeug does."""
    if status == HTTPStatus.NOT_FOUND:
        return f"{request.path} does not exist; POST a picture to /predict"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return f"{request.method} is not allowed on {request.path}; use {allowed}"
    if type(error) is RequestEntityTooLarge:
        config = current_app.config
        return (
            f"the request is larger than {config['MAX_CONTENT_LENGTH']:,} bytes, or "
            f"its form has more than {config['MAX_FORM_PARTS']} parts or "
            f"{config['MAX_FORM_MEMORY_SIZE']:,} bytes besides the files; send less"
        )
    return error.description or status.phrase


def _answer_unexpected(error: Exception) -> Response:
    """Log a fault of the service with its traceback; reply without it."""
    request_id = request.environ.get(REQUEST_ID)
    _log.error("unexpected error on request %s", request_id, exc_info=error)
    return _answer(InternalServerError(OUR_FAULT))
