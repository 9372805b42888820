"""WSGI middleware that answers requests for one picture without Flask."""

import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from service.features import Images
from service.images import begins_like_picture, read_mnist_png
from service.server.wsgi_keys import DEFER
from service.web.auth import AUTHORIZED
from service.web.bulk import NPY
from service.web.cors import is_cross_site
from service.web.extension import Extension
from service.web.families import count_predictions
from service.web.forms import plain_files
from service.web.nondigits import refusals
from service.web.one_picture import Result, answer
from service.web.prediction_json import JSON, prediction
from service.web.problems import MEDIA_TYPE, SAFETY, fields, write
from service.web.steps import cost_of

SAFE = list(SAFETY.items())
# Hosts that Flask accepts too; it checks all others. Labels have 63 bytes at most (RFC 1035).
_HOST = re.compile(
    r"(?:(?:[a-z0-9-]{1,63}\.){,9}[a-z0-9-]{1,57}|\[[0-9a-f:]{2,39}\])(?::[0-9]{1,5})?", re.I
)
MAX_MNIST_BYTES = 4096  # enough for any PNG of 28 x 28 grey pixels, with its form
# Larger bodies are not looked at in the event loop. They take a thread of their own, and
# such pictures take longer to read than another thread to start.
MAX_SHORT_BYTES = 2**20

# environ key, read behind this middleware: the parts of the request's form, or None if it
# is not plain
UPLOADS = "digits.uploads"
FILE = "digits.file"  # environ key: the only picture of a simple request, or None

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class FastPath:
    """Middleware that answers simple predictions and passes on all other requests.

    Its replies equal the application's byte for byte: it takes the same steps without
    the framework, and passes on a request at the first sign that it is unusual.

    MNIST-shaped PNGs are answered at once and micro-batched. An image is scored when its
    reply is first iterated, together with all images of the same thread whose replies
    have not been iterated yet. A server that calls the application for several requests
    before it iterates over the replies gets them scored as one batch; on any other
    server, each image is scored alone, with the same result.

    Other single pictures are read in one thread, in order. Larger requests, and all that
    the application does with a POST, take a thread each.
    """

    def __init__(self, application: Application, extension: Extension) -> None:
        self.application, self.extension = application, extension
        self.headers = [*SAFE, *extension.cors.headers]
        self._local = threading.local()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        """Answer one request."""
        is_simple = self._is_simple(environ)
        n_bytes = int(environ["CONTENT_LENGTH"]) if is_simple else 0
        file = _only_file(environ) if 0 < n_bytes <= MAX_SHORT_BYTES else None
        image = read_mnist_png(file) if file and n_bytes <= MAX_MNIST_BYTES else None
        if image is not None:
            reply = _Reply(self, image, environ, start_response)
            self.waiting.append(reply)
            return reply
        is_deferred = DEFER in environ and environ["REQUEST_METHOD"] == "POST"
        cost = cost_of([file], n_bytes, self.extension.limits) if file and is_deferred else None
        application = partial(self._answer, cost=cost) if is_simple else self.application
        call = partial(application, environ, start_response)
        return environ[DEFER](call, cost) if is_deferred else call()

    def _is_simple(self, environ: Environ) -> bool:
        """Return whether a request posts a short enough body and asks for nothing unusual."""
        length = environ.get("CONTENT_LENGTH", "")
        if (
            environ["PATH_INFO"] != "/predict"
            or environ["REQUEST_METHOD"] != "POST"
            or environ["QUERY_STRING"]
            or not (length.isdecimal() and int(length) <= self.extension.limits.max_bytes)
            or "HTTP_UPGRADE" in environ
            or is_cross_site(environ)
            or ("HTTP_ORIGIN" in environ and self.extension.cors.allowed)
            or NPY in environ.get("HTTP_ACCEPT", "").lower()
            or not _HOST.fullmatch(environ.get("HTTP_HOST", "x"))
        ):
            return False
        environ[AUTHORIZED] = self.extension.api_keys.authorize(environ)
        return bool(environ[AUTHORIZED])

    def _answer(
        self, environ: Environ, start_response: StartResponse, cost: float | None
    ) -> Iterable[bytes]:
        """Answer a simple request whose picture is not an MNIST-shaped PNG."""
        file = _only_file(environ)
        result = file and answer(self.extension, file, environ, cost)
        if not result:
            return self.application(environ, start_response)
        return [_written(result, start_response, self.headers)]

    @property
    def waiting(self) -> list["_Reply"]:
        """The replies of this thread whose images are not scored yet."""
        waiting: list[_Reply] = self._local.__dict__.setdefault("waiting", [])
        return waiting

    def score(self) -> None:
        """Score all waiting images in one batch.

        If scoring raises, the application answers each of the requests by itself, so
        that only the image at fault fails.
        """
        replies = self.waiting[:]
        self.waiting.clear()
        classifier = self.extension.models.current()
        images = np.array([reply.image for reply in replies])
        try:
            scores = classifier.score(images)
        except Exception:  # the application raises and logs it again
            return
        refused = refusals(classifier, scores)
        for i, reply in enumerate(replies):
            reply.result = refused.get(i) or (classifier, scores, i)
        self.extension.metrics.count("digits_pictures", "read", by=len(replies))
        count_predictions(self.extension.metrics, classifier.classes, scores, refused)


@dataclass(eq=False)
class _Reply:
    """The body of a reply, which is written when it is first iterated."""

    fast_path: FastPath
    image: Images
    environ: Environ
    start_response: StartResponse
    result: Result | None = None  # once the image is scored

    def __iter__(self) -> Iterator[bytes]:
        if self in self.fast_path.waiting:
            self.fast_path.score()
        if self.result is None:
            body = self.fast_path.application(self.environ, self.start_response)
            try:
                yield from body
            finally:
                getattr(body, "close", lambda: None)()
            return
        yield _written(self.result, self.start_response, self.fast_path.headers)

    def close(self) -> None:
        """Drop the image if the server closes the reply before iterating it."""
        if self in self.fast_path.waiting:
            self.fast_path.waiting.remove(self)


def _only_file(environ: Environ) -> bytes | None:
    """Return the picture of a body, or of a plain form with one file; else None."""
    if FILE not in environ:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        if begins_like_picture(body):
            environ[FILE] = body
        else:
            parts = plain_files(environ.get("CONTENT_TYPE", ""), body, most=1)
            environ[UPLOADS], environ[FILE] = parts, parts[0].content if parts else None
    file: bytes | None = environ[FILE]
    return file


def _written(
    result: Result, start_response: StartResponse, headers: list[tuple[str, str]]
) -> bytes:
    """Start the response to one picture and return its body."""
    if isinstance(result, HTTPException):
        code = result.code or 0
        # as Werkzeug writes it
        status = f"{code} {HTTP_STATUS_CODES[code].upper()}"
        media_type, reply = MEDIA_TYPE, write(fields(result))
    else:
        status, media_type, reply = "200 OK", JSON, prediction(*result)
    start_response(
        status, [("Content-Type", media_type), ("Content-Length", str(len(reply))), *headers]
    )
    return reply
