"""The Flask application: routes that hand an upload on, and its probabilities back."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from service.classifier import Classifier, InvalidWeights
from service.explain import explain
from service.features import IMAGE_SIZE, Images
from service.images import read_image
from service.reading.errors import InvalidImage, UnknownFormat
from service.server.metrics import Metrics
from service.server.wsgi_keys import RECEIVED_AT, STOPPING
from service.settings import InvalidSetting, Limits, read_settings
from service.web import problems
from service.web.auth import Keys
from service.web.bulk import (
    BYTES,
    NPY,
    InvalidArray,
    images_of_bytes,
    images_of_npy,
    npy_of,
)
from service.web.extension import NAME, Extension, extension
from service.web.fair_lock import Turns
from service.web.families import count_predictions, new_metrics
from service.web.fast_path import AUTHORIZED, UPLOADS, Door
from service.web.forms import plain_files
from service.web.model_store import Model, Served, load_first
from service.web.openapi import describe
from service.web.prediction_json import JSON
from service.web.problems import Problem
from service.web.ui import pages

FIELDS = ("image", "file")
LEAST_QUALITY = 0.001  # in Accept: less is a refusal
KEPT = ("digits.predict", "digits.model")  # for who has a key, where keys are set
BLOCK = 256  # images that are scored in one turn
BULK = {BYTES: images_of_bytes, NPY: images_of_npy}

routes = Blueprint("digits", __name__)


def create_app(classifier: Classifier | None = None) -> Flask:
    """Build the service, for the classifier given or for the one DIGITS_WEIGHTS names.

    DIGITS_WEIGHTS is one path, or several separated by ":" of which the first that
    exists is served; without it, the file that ships with the package is. Exits with
    one sentence if that file cannot be served.
    """
    try:
        settings = read_settings(os.environ)
        paths = () if classifier else settings.weights
        metrics = new_metrics()
        model = Model(classifier or load_first(paths), paths, metrics)
    except (InvalidSetting, InvalidWeights) as error:
        sys.exit(f"digits: {error}")
    limits = settings.limits
    app = Flask(__name__, static_folder=None, template_folder="web/templates")
    app.config.update(
        MAX_CONTENT_LENGTH=limits.max_bytes,
        MAX_FORM_PARTS=limits.max_pictures + limits.max_fields,
        MAX_FORM_MEMORY_SIZE=limits.max_field_bytes,
        # its answer would be an empty page of HTML
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's
    keys = Keys(settings.api_keys)
    app.extensions[NAME] = Extension(model, metrics, keys, limits, Turns())
    app.register_blueprint(routes)
    app.register_blueprint(pages)
    problems.init_app(app)
    app.wsgi_app = Door(app.wsgi_app, model, metrics, keys)  # type: ignore[method-assign]
    return app


def _served() -> Served:
    """Give what this request is answered with, from its beginning to its end."""
    if "served" not in g:
        g.served = extension().model.current()
    served: Served = g.served
    return served


def _metrics() -> Metrics:
    return extension().metrics


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Compute when it is this thread's turn, and note how long both took."""
    turns = extension().turns
    asked = time.monotonic()
    # before the first step, a request waits for a thread
    spent: dict[str, float] = g.setdefault(
        "spent", {"wait": asked - request.environ.get(RECEIVED_AT, asked)}
    )
    with turns:
        began = time.monotonic()
        spent["wait"] += began - asked
        try:
            yield
        finally:
            spent[name] = spent.get(name, 0.0) + time.monotonic() - began


def _limits() -> Limits:
    return extension().limits


@routes.before_request
def admit() -> None:
    """Ask for a key where one is wanted; probes and metrics are for everyone."""
    is_kept = request.endpoint in KEPT
    if not is_kept:
        return
    is_admitted = request.environ.get(AUTHORIZED)
    if is_admitted is None:
        is_admitted = extension().keys.admit(request.environ)
    if not is_admitted:
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "this wants a key that is known here; send it as Authorization: Bearer "
            "KEY, or as X-API-Key",
        )


@routes.after_request
def tell_times(response: Response) -> Response:
    """Tell how long each step of an answer took, to who asks."""
    if request.args.get("timing") == "1" and "spent" in g:
        response.headers["Server-Timing"] = ", ".join(
            f"{step};dur={1e3 * seconds:.3f}" for step, seconds in g.spent.items()
        )
    return response


@routes.post("/predict")
def predict() -> Response:
    """Classify the picture in the request, the pictures, or the images."""
    explains = _is_asked_for("explain")
    _is_asked_for("timing")
    # cached, so that a form that is not plain can still be parsed
    try:
        body = request.get_data(cache=True, parse_form_data=False)
    except HTTPException:
        raise
    except Exception as error:  # every WSGI server has its own for a malformed body
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"malformed request body: {error}"
        ) from error
    # a chunked body over the limit is cut there, where a declared one is refused
    if request.content_length is None and len(body) >= _limits().max_bytes:
        raise RequestEntityTooLarge
    is_bulk = request.mimetype in BULK
    uploads = [] if is_bulk else _uploads(body)
    if explains and (len(uploads) != 1 or _wants_npy()):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "explain=1 is for one picture, answered as JSON; leave it out, or send one",
        )
    if is_bulk:
        return _answer_images(_images(body))
    if len(uploads) > 1:
        return _answer_pictures(uploads)
    image = _read(uploads[0], _limits().max_pixels)
    if isinstance(image, Problem):
        raise image
    explanation = {}
    if explains:
        with _step("explain"):
            explanation["explanation"] = explain(_served().classifier, image)
    probabilities = _score(image[np.newaxis])
    if _wants_npy():
        return _npy(probabilities)
    return _json(_served().replies.one(probabilities[0], **explanation))


def _score(images: Images) -> npt.NDArray[np.float64]:
    """Give the probabilities (n, K) of images (n, 28, 28), some in each turn."""
    probabilities = np.empty((len(images), len(_served().classifier.classes)))
    for first in range(0, len(images), BLOCK):
        block = slice(first, first + BLOCK)
        with _step("score"):
            probabilities[block] = _served().classifier.predict_proba(images[block])
    count_predictions(_metrics(), _served().classifier.classes, probabilities)
    return probabilities


def _read(upload: bytes, max_pixels: int) -> Images | Problem:
    """Read one upload as an image (28, 28), or tell why it is none."""
    try:
        with _step("read"):
            image = read_image(upload, max_pixels)
    except InvalidImage as error:
        is_unknown = isinstance(error, UnknownFormat)
        _metrics().count("digits_pictures", "unknown" if is_unknown else "refused")
        return Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            if is_unknown
            else HTTPStatus.UNPROCESSABLE_ENTITY,
            str(error),
        )
    _metrics().count("digits_pictures", "read")
    return image


def _answer_pictures(uploads: list[bytes]) -> Response:
    """Answer several pictures, in their order; one that is bad spoils no other."""
    limits = _limits()
    max_pixels = min(limits.max_pixels, limits.max_pixels_together // len(uploads))
    readings = [_read(upload, max_pixels) for upload in uploads]
    images = [image for image in readings if not isinstance(image, Problem)]
    rows = iter(_score(np.array(images).reshape(-1, *IMAGE_SIZE)))
    slots = [
        problems.fields(reading.status, str(reading.description))
        if isinstance(reading, Problem)
        else next(rows)
        for reading in readings
    ]
    if _wants_npy():
        bad = np.full(len(_served().classifier.classes), np.nan)
        return _npy(np.array([bad if isinstance(s, dict) else s for s in slots]))
    return _json(_served().replies.many(slots))


def _answer_images(images: Images) -> Response:
    """Answer images (N, 28, 28), in their order."""
    probabilities = _score(images)
    return (
        _npy(probabilities)
        if _wants_npy()
        else _json(_served().replies.many(probabilities))
    )


def _wants_npy() -> bool:
    """Tell whether the client names .npy, and likes it no less than JSON."""
    accepted = request.accept_mimetypes
    names = [name.partition(";")[0].lower() for name in accepted.values()]
    return NPY in names and accepted[NPY] >= max(accepted[JSON], LEAST_QUALITY)


def _npy(probabilities: npt.NDArray[np.float64]) -> Response:
    return Response(npy_of(probabilities.astype(np.float32)), content_type=NPY)


def _json(reply: bytes) -> Response:
    return Response(reply, content_type=JSON)


def _is_asked_for(option: str) -> bool:
    """Read an option of the query, which is 0 or 1."""
    value = request.args.get(option, "0")
    if value not in ("0", "1"):
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"{option} is {value[:40]!r}; set it to 0 or 1"
        )
    return value == "1"


def _images(body: bytes) -> Images:
    """Take the images (N, 28, 28) out of a bulk body."""
    try:
        images = BULK[request.mimetype](body)
    except InvalidArray as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from error
    if len(images) > (most := _limits().max_images):
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body holds {len(images):,} images; send at most {most:,}",
        )
    if not len(images):
        raise Problem(HTTPStatus.BAD_REQUEST, "there is no image in the request")
    return images


def _uploads(body: bytes) -> list[bytes]:
    """Take the bytes of one or more pictures out of a form, or out of the body."""
    if request.mimetype == "multipart/form-data":
        most = _limits().max_pictures
        uploads = request.environ.get(UPLOADS) or plain_files(
            request.headers["Content-Type"], body, most
        )
        uploads = uploads or _form_files()
    elif request.mimetype.startswith("image/") or not body:
        uploads = [body]
    else:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"a body of type {request.mimetype!r} is not taken; send "
            "multipart/form-data with the picture in 'image', the picture itself "
            f"with its image/* type, or images in bulk as {' or '.join(BULK)}",
        )
    if not any(uploads):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "there is no picture in the request; send one: curl -F image=@digit.png",
        )
    return uploads


def _form_files() -> list[bytes]:
    """Take the files out of a form of any shape, all of one field."""
    limits = _limits()
    values = [value for _, values in request.form.lists() for value in values]
    n_bytes = sum(len(value.encode()) for value in values)
    if len(values) > limits.max_fields or n_bytes > limits.max_field_bytes:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the form has {len(values):,} fields of {n_bytes:,} bytes beside its "
            f"pictures; send at most {limits.max_fields:,} of "
            f"{limits.max_field_bytes:,}",
        )
    fields = [name for name in FIELDS if request.files.getlist(name)]
    if len(fields) > 1:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "the form has files in 'image' and in 'file', whose order is not known; "
            "send all in 'image'",
        )
    if not fields:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            f"the form has no file in 'image' or 'file' ({_fields_found()}); send one: "
            "curl -F image=@digit.png",
        )
    files = [(file.filename, file.read()) for file in request.files.getlist(fields[0])]
    # what a browser sends for a file that was not chosen has neither
    uploads = [content for name, content in files if name or content] or [b""]
    if len(uploads) > (most := limits.max_pictures):
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the form has {len(uploads):,} pictures; send at most {most:,}",
        )
    return uploads


def _fields_found() -> str:
    # a part without a name is None
    names = sorted(map(str, {*request.files, *request.form}))
    if not names:
        return "it has no field that can be read: is its boundary the one declared?"
    shown = ", ".join(repr(name[:40]) for name in names[:5])
    return f"its fields: {shown}" + (f" and {len(names) - 5} more" * (len(names) > 5))


@routes.get("/livez")
def livez() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "alive"}


@routes.get("/readyz")
def readyz() -> dict[str, str]:
    """Answer once weights are loaded, before which nothing listens, until a stop."""
    if STOPPING in request.environ:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "this process is stopping; send requests to another one",
        )
    return {"status": "ready", "model": _served().classifier.version}


@routes.get("/metrics")
def metrics() -> Response:
    """Tell Prometheus what all workers have done."""
    classifier = _served().classifier
    text, content_type = _metrics().text(
        {"model": classifier.version, "features": classifier.features}
    )
    return Response(text, content_type=content_type)


@routes.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """Describe all this to a program."""
    return describe(_limits())


@routes.get("/model")
def model() -> dict[str, Any]:
    """Tell what is served: how it was trained, how well it reads the test set."""
    classifier = _served().classifier
    return {
        "model": classifier.version,
        "features": classifier.features,
        "classes": list(classifier.classes),
        "training": dict(classifier.training),
        "evaluation": dict(classifier.evaluation),
    }
