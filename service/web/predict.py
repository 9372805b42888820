"""POST /predict: uploads → images → probabilities → reply."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from flask import Response, g, request
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from service.classifier import Classifier, Scores
from service.explain import explain
from service.features import IMAGE_SIZE, Images
from service.images import InvalidImage, UnknownFormat, n_pixels, read_image, read_levels
from service.server.wsgi_keys import ADMIT, IS_CANCELLED, RECEIVED_AT
from service.settings import Limits
from service.web import problems
from service.web.bulk import NPY, to_npy, unusual_images
from service.web.extension import extension
from service.web.families import count_predictions
from service.web.hints import hint
from service.web.nondigits import NotADigit, refusals
from service.web.prediction_json import JSON, prediction, predictions
from service.web.problems import SHOWN
from service.web.uploads import bulk_images, pictures, read_body

MIN_QUALITY = 0.001  # in Accept; 0 means "not acceptable"
BLOCK = 256  # images scored while the lock is held once
# bytes of a request, and pixels of its pictures, that take as long as one small picture
BYTES_PER_COST, PIXELS_PER_COST = 2**16, 100_000

Errors = dict[int, dict[str, object]]  # problem documents by the index of the picture


def predict() -> Response:
    """Classify one picture, several pictures, or images in bulk."""
    is_explained, _ = _option("explain"), _option("timing")
    limits, classifier = extension().limits, extension().models.current()
    body = read_body(limits)
    bulk = bulk_images(body, limits)
    files = [] if bulk is not None else pictures(body, limits)
    # a picture may claim any size, but more pixels than these are refused unread
    pixels = min(sum(map(n_pixels, files)), limits.max_pixels_together)
    _admit(len(files) + len(body) / BYTES_PER_COST + pixels / PIXELS_PER_COST)
    is_single, is_npy = len(files) == 1, _prefers_npy()
    if is_explained and (is_npy or not is_single):
        raise BadRequest(
            "explain=1 is only for one picture with a JSON reply; send one picture, or omit explain"
        )
    images, errors = _read_all(files, limits) if bulk is None else _read_bulk(bulk, limits)
    extra: dict[str, object] = {}
    if is_explained:
        with _timed("explain"):
            extra["explanation"] = explain(classifier, images[0])
    scores = _score(classifier, images)
    refused = refusals(classifier, scores, extra)
    count_predictions(extension().metrics, classifier.classes, scores, refused)
    if is_single and refused:
        raise refused[0]
    scores, errors = _in_slots(scores, refused, errors)
    if is_npy:
        return Response(to_npy(scores.probabilities.astype(np.float32)), content_type=NPY)
    if is_single:
        reply = prediction(classifier, scores, 0, extra)
    else:
        reply = predictions(classifier, scores, errors)
    return Response(reply, content_type=JSON)


def add_server_timing(response: Response) -> Response:
    """Report how long each step took, if the request has ?timing=1."""
    if request.args.get("timing") == "1" and "seconds" in g:
        response.headers["Server-Timing"] = ", ".join(
            f"{step};dur={1e3 * seconds:.3f}" for step, seconds in g.seconds.items()
        )
    return response


def _admit(cost: float) -> None:
    """Raise ServiceUnavailable if the server has too much work to take on this cost."""
    admit = request.environ.get(ADMIT)  # only our server sets it
    if admit and not admit(cost):
        raise ServiceUnavailable("server overloaded; retry after 1 s")


@contextmanager
def _timed(step: str) -> Iterator[None]:
    """Run one step while no other thread computes, and add up its seconds.

    Raises ClientDisconnected if the client has left.
    """
    requested = time.monotonic()
    # before the first step, a request waits for a thread
    seconds: dict[str, float] = g.setdefault(
        "seconds", {"wait": requested - request.environ.get(RECEIVED_AT, requested)}
    )
    with extension().compute_lock:
        if request.environ.get(IS_CANCELLED, bool)():
            raise ClientDisconnected
        started = time.monotonic()
        seconds["wait"] += started - requested
        try:
            yield
        finally:
            seconds[step] = seconds.get(step, 0.0) + time.monotonic() - started


def _read_all(files: list[bytes], limits: Limits) -> tuple[Images, Errors]:
    """Read pictures as images (n, 28, 28); raise the error of a single one."""
    max_pixels = min(limits.max_pixels, limits.max_pixels_together // len(files))
    if len(files) == 1:
        return _read(files[0], max_pixels)[np.newaxis], {}
    images, errors = _read_each(dict(enumerate(files)), max_pixels)
    return np.array(list(images.values()), np.uint8).reshape(-1, *IMAGE_SIZE), errors


def _read_bulk(images: Images, limits: Limits) -> tuple[Images, Errors]:
    """Read the images (N, 28, 28) that are not MNIST-shaped as pictures; keep the others."""
    with _timed("read"):
        unusual = unusual_images(images)
    if len(unusual) > limits.max_pictures:
        raise RequestEntityTooLarge(
            f"{len(unusual):,} of {len(images):,} images are not in MNIST's format and would be "
            f"read as pictures; send at most {limits.max_pictures:,} of these"
        )
    if not len(unusual):
        return images, {}
    _admit(len(unusual))
    read, errors = _read_each({i: images[i] for i in unusual.tolist()}, limits.max_pixels)
    images = images.copy()
    for i, image in read.items():
        images[i] = image
    return np.delete(images, list(errors), axis=0), errors


def _read_each(
    uploads: Mapping[int, bytes | Images], max_pixels: int
) -> tuple[dict[int, Images], Errors]:
    """Read uploads as images (28, 28); return these and the errors, by their indices."""
    images: dict[int, Images] = {}
    errors: Errors = {}
    for i, upload in uploads.items():
        try:
            images[i] = _read(upload, max_pixels)
        except ClientDisconnected:
            raise
        except HTTPException as error:
            errors[i] = problems.fields(error)
    return images, errors


def _read(upload: bytes | Images, max_pixels: int) -> Images:
    """Read one upload, or grey levels (28, 28), as an image (28, 28)."""
    metrics = extension().metrics
    try:
        with _timed("read"):
            if isinstance(upload, bytes):
                image = read_image(upload, max_pixels)
            else:
                image = read_levels(upload)
    except UnknownFormat as error:
        metrics.count("digits_pictures", "unknown")
        raise UnsupportedMediaType(f"{error}{hint(bytes(upload))}") from error
    except InvalidImage as error:
        metrics.count("digits_pictures", "refused")
        raise UnprocessableEntity(str(error)) from error
    metrics.count("digits_pictures", "read")
    return image


def _score(classifier: Classifier, images: Images) -> Scores:
    """Score images (n, 28, 28), block by block."""
    probabilities = np.empty((len(images), len(classifier.classes)))
    is_digit = np.empty(len(images))
    for first in range(0, len(images), BLOCK):
        block = slice(first, first + BLOCK)
        with _timed("score"):
            probabilities[block], p = classifier.score(images[block])
        if p is not None:
            is_digit[block] = p
    return Scores(probabilities, is_digit if classifier.detector else None)


def _in_slots(
    scores: Scores, refused: dict[int, NotADigit], errors: Errors
) -> tuple[Scores, Errors]:
    """Add slots for the images that could not be read, and an error for each refused one.

    Rows of images with an error are NaN.
    """
    if not refused and not errors:
        return scores, errors
    n = len(scores.probabilities) + len(errors)
    slots = np.setdiff1d(np.arange(n), list(errors)).tolist()  # of the scores
    errors = errors | {slots[i]: problems.fields(error) for i, error in refused.items()}

    def spread(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rows = np.full((n, *values.shape[1:]), np.nan)
        rows[slots] = values
        rows[list(errors)] = np.nan
        return rows

    is_digit = None if scores.is_digit is None else spread(scores.is_digit)
    return Scores(spread(scores.probabilities), is_digit), errors


def _prefers_npy() -> bool:
    """Return whether Accept names .npy with at least the quality of JSON."""
    accepted = request.accept_mimetypes
    names = [name.partition(";")[0].lower() for name in accepted.values()]
    return NPY in names and accepted[NPY] >= max(accepted[JSON], MIN_QUALITY)


def _option(name: str) -> bool:
    """Parse a query parameter that is 0 or 1."""
    value = request.args.get(name, "0")
    if value not in ("0", "1"):
        raise BadRequest(f"{name} is {value[:SHOWN]!r}; set it to 0 or 1")
    return value == "1"
