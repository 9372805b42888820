"""POST /predict: uploads → images → probabilities → reply."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
from flask import Response, g, request

from service.classifier import Classifier
from service.explain import explain
from service.features import IMAGE_SIZE, Images
from service.images import InvalidImage, UnknownFormat, read_image
from service.server.wsgi_keys import RECEIVED_AT
from service.web import prediction_json, problems
from service.web.bulk import NPY, PARSERS, to_npy
from service.web.extension import extension
from service.web.families import count_predictions
from service.web.prediction_json import JSON
from service.web.problems import Problem
from service.web.uploads import bulk_images, pictures, read_body

MIN_QUALITY = 0.001  # in Accept; 0 means "not acceptable"
BLOCK = 256  # images scored while the lock is held once

Probabilities = npt.NDArray[np.float64]


def predict() -> Response:
    """Classify one picture, several pictures, or images in bulk."""
    is_explained, _ = _option("explain"), _option("timing")
    limits, classifier = extension().limits, extension().models.current()
    body = read_body(limits)
    is_bulk = request.mimetype in PARSERS
    files = [] if is_bulk else pictures(body, limits)
    if is_explained and (len(files) != 1 or _prefers_npy()):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "explain=1 is only for one picture with a JSON reply; send one picture, or "
            "omit explain",
        )
    if is_bulk:
        return _reply(classifier, _score(classifier, bulk_images(body, limits)), {})
    if len(files) > 1:
        return _reply(classifier, *_classify(classifier, files))
    image = _read(files[0], limits.max_pixels)
    extra = {}
    if is_explained:
        with _timed("explain"):
            extra["explanation"] = explain(classifier, image)
    probabilities = _score(classifier, image[np.newaxis])
    if _prefers_npy():
        return _npy_reply(probabilities)
    reply = prediction_json.prediction(classifier, probabilities[0], **extra)
    return Response(reply, content_type=JSON)


def add_server_timing(response: Response) -> Response:
    """Report how long each step took, if the request has ?timing=1."""
    if request.args.get("timing") == "1" and "seconds" in g:
        response.headers["Server-Timing"] = ", ".join(
            f"{step};dur={1e3 * seconds:.3f}" for step, seconds in g.seconds.items()
        )
    return response


@contextmanager
def _timed(step: str) -> Iterator[None]:
    """Run one step while no other thread computes, and add up its seconds."""
    requested = time.monotonic()
    # before the first step, a request waits for a thread
    seconds: dict[str, float] = g.setdefault(
        "seconds", {"wait": requested - request.environ.get(RECEIVED_AT, requested)}
    )
    with extension().compute_lock:
        started = time.monotonic()
        seconds["wait"] += started - requested
        try:
            yield
        finally:
            seconds[step] = seconds.get(step, 0.0) + time.monotonic() - started


def _read(upload: bytes, max_pixels: int) -> Images:
    """Read one upload as an image (28, 28); raise Problem if it has no digit."""
    metrics = extension().metrics
    try:
        with _timed("read"):
            image = read_image(upload, max_pixels)
    except UnknownFormat as error:
        metrics.count("digits_pictures", "unknown")
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
    except InvalidImage as error:
        metrics.count("digits_pictures", "refused")
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
    metrics.count("digits_pictures", "read")
    return image


def _score(classifier: Classifier, images: Images) -> Probabilities:
    """Compute the probabilities (n, K) of images (n, 28, 28), block by block."""
    probabilities = np.empty((len(images), len(classifier.classes)))
    for first in range(0, len(images), BLOCK):
        block = slice(first, first + BLOCK)
        with _timed("score"):
            probabilities[block] = classifier.predict_proba(images[block])
    count_predictions(extension().metrics, classifier.classes, probabilities)
    return probabilities


def _classify(
    classifier: Classifier, files: list[bytes]
) -> tuple[Probabilities, dict[int, dict[str, object]]]:
    """Compute the probabilities (n, K) of n pictures, and the errors by index.

    The rows of pictures with an error are NaN.
    """
    limits = extension().limits
    max_pixels = min(limits.max_pixels, limits.max_pixels_together // len(files))
    images: dict[int, Images] = {}
    errors: dict[int, dict[str, object]] = {}
    for i, file in enumerate(files):
        try:
            images[i] = _read(file, max_pixels)
        except Problem as problem:
            errors[i] = problems.fields(problem.status, str(problem.description))
    probabilities = np.full((len(files), len(classifier.classes)), np.nan)
    batch = np.array(list(images.values()), np.uint8).reshape(-1, *IMAGE_SIZE)
    probabilities[list(images)] = _score(classifier, batch)
    return probabilities, errors


def _reply(
    classifier: Classifier, probabilities: Probabilities, errors: dict[int, dict[str, object]]
) -> Response:
    if _prefers_npy():
        return _npy_reply(probabilities)
    reply = prediction_json.predictions(classifier, probabilities, errors)
    return Response(reply, content_type=JSON)


def _npy_reply(probabilities: Probabilities) -> Response:
    return Response(to_npy(probabilities.astype(np.float32)), content_type=NPY)


def _prefers_npy() -> bool:
    """Return whether Accept names .npy with at least the quality of JSON."""
    accepted = request.accept_mimetypes
    names = [name.partition(";")[0].lower() for name in accepted.values()]
    return NPY in names and accepted[NPY] >= max(accepted[JSON], MIN_QUALITY)


def _option(name: str) -> bool:
    """Parse a query parameter that is 0 or 1."""
    value = request.args.get(name, "0")
    if value not in ("0", "1"):
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} is {value[:40]!r}; set it to 0 or 1")
    return value == "1"
