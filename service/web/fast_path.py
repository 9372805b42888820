"""The way past Flask for the request that most are: one MNIST image in a plain form."""

import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from service.images import read_mnist_png
from service.server.metrics import Metrics
from service.server.wsgi_keys import DEFER
from service.web.auth import Keys
from service.web.bulk import NPY
from service.web.families import count_predictions
from service.web.forms import plain_files
from service.web.model_store import Model, Served
from service.web.prediction_json import JSON
from service.web.problems import SAFETY

SAFE = list(SAFETY.items())
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,200}")  # of others, Flask has its opinion
MAX_QUICK_BYTES = 4096  # no PNG of 28 x 28 grey pixels needs more, with its form

# what this middleware has found out about a request that it hands on to Flask
AUTHORIZED = "digits.authorized"  # whether it carries a known API key
UPLOADS = "digits.uploads"  # the bytes of its pictures; None if its form is not plain

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Image = npt.NDArray[np.uint8]


class Door:
    """A WSGI application in front of another one, which answers what it does not.

    Whatever it answers, the other would have answered with the same bytes: it takes
    the same steps, less the framework's, and leaves a request alone at the first sign
    that it is not plain.

    Images are scored when the first reply is asked for, with all others that wait for
    theirs in the same thread: a server that calls the application for every request it
    has, and iterates over the replies after that, has them scored as one batch. One
    that does these in turn has each scored alone, with the same result.
    """

    def __init__(
        self, application: Application, model: Model, metrics: Metrics, keys: Keys
    ) -> None:
        self.application, self.model = application, model
        self.metrics, self.keys = metrics, keys
        self._waiting = threading.local()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        """Answer one request."""
        image = self._image(environ)
        if image is not None:
            return _Prediction(self, image, start_response)
        if DEFER in environ and environ["REQUEST_METHOD"] == "POST":
            return environ[DEFER](lambda: self.application(environ, start_response))
        return self.application(environ, start_response)

    def _image(self, environ: Environ) -> Image | None:
        """Take the image out of a plain request, and out of no other."""
        length = environ.get("CONTENT_LENGTH", "")
        if (
            environ["PATH_INFO"] != "/predict"
            or environ["REQUEST_METHOD"] != "POST"
            or environ["QUERY_STRING"]
            or not (length.isdecimal() and int(length) <= MAX_QUICK_BYTES)
            or NPY in environ.get("HTTP_ACCEPT", "").lower()
            or not _HOST.fullmatch(environ.get("HTTP_HOST", "x"))
        ):
            return None
        environ[AUTHORIZED] = self.keys.admit(environ)
        if not environ[AUTHORIZED]:
            return None
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
        kind = environ.get("CONTENT_TYPE", "")
        files = [body] if kind == "image/png" else plain_files(kind, body, most=1)
        environ[UPLOADS] = files
        return read_mnist_png(files[0]) if files else None

    @property
    def waiting(self) -> list["_Prediction"]:
        """The predictions of this thread that are not scored yet."""
        waiting: list[_Prediction] = self._waiting.__dict__.setdefault("list", [])
        return waiting

    def score(self) -> None:
        """Score all images that wait, in one batch."""
        images = np.array([prediction.image for prediction in self.waiting])
        served = self.model.current()
        rows = served.classifier.predict_proba(images)
        for prediction, row in zip(self.waiting, rows, strict=True):
            prediction.served, prediction.probabilities = served, row
            prediction.waits = False
        self.metrics.count("digits_pictures", "read", by=len(rows))
        count_predictions(self.metrics, served.classifier.classes, rows)
        self.waiting.clear()


class _Prediction:
    """The body of a reply, which is known when it is asked for."""

    served: Served
    probabilities: npt.NDArray[np.float64]

    def __init__(self, door: Door, image: Image, start_response: StartResponse) -> None:
        self.door, self.image, self.start_response = door, image, start_response
        self.waits = True
        door.waiting.append(self)

    def __iter__(self) -> Iterator[bytes]:
        if self.waits:
            self.door.score()
        reply = self.served.replies.one(self.probabilities)
        headers = [("Content-Type", JSON), ("Content-Length", str(len(reply)))]
        self.start_response("200 OK", headers + SAFE)
        yield reply

    def close(self) -> None:
        """Wait no longer: a server calls this however the reply ends."""
        if self.waits:
            self.door.waiting.remove(self)
