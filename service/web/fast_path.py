"""WSGI middleware that answers MNIST-shaped PNGs without Flask."""

import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.classifier import Classifier, Scores
from service.features import Images
from service.images import begins_like_picture, read_mnist_png
from service.server.wsgi_keys import DEFER
from service.web.auth import AUTHORIZED
from service.web.bulk import NPY
from service.web.cors import CROSS_SITE
from service.web.extension import Extension
from service.web.families import count_predictions
from service.web.forms import plain_files
from service.web.nondigits import refusals
from service.web.prediction_json import JSON, prediction
from service.web.problems import MEDIA_TYPE, SAFETY, Refused, fields, write

SAFE = list(SAFETY.items())
STATUS_REFUSED = "422 UNPROCESSABLE ENTITY"  # as Werkzeug writes it
# Hosts that Flask accepts too; it checks all others. Labels have 63 bytes at most (RFC 1035).
_HOST = re.compile(
    r"(?:(?:[a-z0-9-]{1,63}\.){,9}[a-z0-9-]{1,57}|\[[0-9a-f:]{2,39}\])(?::[0-9]{1,5})?", re.I
)
MAX_FAST_BYTES = 4096  # enough for any PNG of 28 x 28 grey pixels, with its form

# environ key, read behind this middleware: the parts of the request's form, or None if it
# is not plain
UPLOADS = "digits.uploads"

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class FastPath:
    """Middleware that answers simple predictions and passes on all other requests.

    Its replies equal the application's byte for byte: it takes the same steps without
    the framework, and passes on a request at the first sign that it is unusual.

    Predictions are micro-batched. An image is scored when its reply is first iterated,
    together with all images of the same thread whose replies have not been iterated
    yet. A server that calls the application for several requests before it iterates
    over the replies gets them scored as one batch; on any other server, each image is
    scored alone, with the same result.
    """

    def __init__(self, application: Application, extension: Extension) -> None:
        self.application, self.extension = application, extension
        self.headers = [*SAFE, *extension.cors.headers]
        self._local = threading.local()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        """Answer one request."""
        image = self._image(environ)
        if image is not None:
            reply = _Reply(self, image, environ, start_response)
            self.waiting.append(reply)
            return reply
        if DEFER in environ and environ["REQUEST_METHOD"] == "POST":
            return environ[DEFER](lambda: self.application(environ, start_response))
        return self.application(environ, start_response)

    def _image(self, environ: Environ) -> Images | None:
        """Read the image of a simple request; return None for any other request."""
        length = environ.get("CONTENT_LENGTH", "")
        if (
            environ["PATH_INFO"] != "/predict"
            or environ["REQUEST_METHOD"] != "POST"
            or environ["QUERY_STRING"]
            or not (length.isdecimal() and int(length) <= MAX_FAST_BYTES)
            or "HTTP_UPGRADE" in environ
            or environ.get("HTTP_SEC_FETCH_SITE") == CROSS_SITE
            or ("HTTP_ORIGIN" in environ and self.extension.cors.allowed)
            or NPY in environ.get("HTTP_ACCEPT", "").lower()
            or not _HOST.fullmatch(environ.get("HTTP_HOST", "x"))
        ):
            return None
        environ[AUTHORIZED] = self.extension.api_keys.authorize(environ)
        if not environ[AUTHORIZED]:
            return None
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
        kind = environ.get("CONTENT_TYPE", "")
        if begins_like_picture(body):
            return read_mnist_png(body)
        environ[UPLOADS] = files = plain_files(kind, body, most=1)
        return read_mnist_png(files[0].content) if files else None

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
    # once the image is scored: its index in the scores, or its refusal
    result: tuple[Classifier, Scores, int] | Refused | None = None

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
        if isinstance(self.result, Refused):
            status, media_type, reply = STATUS_REFUSED, MEDIA_TYPE, write(fields(self.result))
        else:
            status, media_type, reply = "200 OK", JSON, prediction(*self.result)
        headers = [("Content-Type", media_type), ("Content-Length", str(len(reply)))]
        self.start_response(status, headers + self.fast_path.headers)
        yield reply

    def close(self) -> None:
        """Drop the image if the server closes the reply before iterating it."""
        if self in self.fast_path.waiting:
            self.fast_path.waiting.remove(self)
