"""Steps of a prediction: admission, then reading and scoring while no other thread computes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from flask import Response, g, request
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
)

from service.classifier import Classifier, Scores
from service.features import IMAGE_SIZE, Images
from service.images import (
    InvalidImage,
    SeveralDigits,
    UnknownFormat,
    UnlikeDigits,
    n_pixels,
    read_levels,
)
from service.number import read_one
from service.server.metrics import Metrics
from service.server.wsgi_keys import ADMIT, IS_CANCELLED, RECEIVED_AT
from service.settings import Limits
from service.web import problems
from service.web.bulk import unusual_images
from service.web.extension import extension
from service.web.families import count_unlike
from service.web.hints import hint

BLOCK = 256  # images scored while the lock is held once
# bytes of a request, and pixels of its pictures, that take as long as one small picture
BYTES_PER_COST, PIXELS_PER_COST = 2**16, 100_000

File = bytes | BadRequest  # a picture file, or why there is none
Upload = TypeVar("Upload", bytes, Images)
Result = TypeVar("Result")
Errors = dict[int, dict[str, Any]]  # problem documents by the index of the picture


def cost_of(files: Sequence[File], n_bytes: int, limits: Limits, cost_of_file: int = 1) -> float:
    """Return the cost of a request of n_bytes with picture files, in small pictures."""
    # a picture may claim any size, but more pixels than these are refused unread
    pixels = sum(n_pixels(file) for file in files if isinstance(file, bytes))
    pixels = min(pixels, limits.max_pixels_together)
    return len(files) * cost_of_file + n_bytes / BYTES_PER_COST + pixels / PIXELS_PER_COST


def admit(cost: float) -> None:
    """Raise ServiceUnavailable if the server has too much work to take on this cost."""
    is_admitted = request.environ.get(ADMIT)  # only our server sets it
    if is_admitted and not is_admitted(cost):
        raise ServiceUnavailable("server overloaded; retry after 1 s")


@contextmanager
def timed(step: str) -> Iterator[None]:
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


def add_server_timing(response: Response) -> Response:
    """Report how long each step took, if the request has ?timing=1."""
    if request.args.get("timing") == "1" and "seconds" in g:
        response.headers["Server-Timing"] = ", ".join(
            f"{step};dur={1e3 * seconds:.3f}" for step, seconds in g.seconds.items()
        )
    return response


def max_pixels(files: Sequence[File], limits: Limits) -> int:
    """Return the pixels that each of some pictures may have."""
    return min(limits.max_pixels, limits.max_pixels_together // len(files))


def read_files(
    files: Sequence[File], read: Callable[[bytes], Result], is_single: bool
) -> tuple[dict[int, Result], Errors]:
    """Read picture files as `read_each` does; raise the error of a single one."""
    if is_single:
        return {0: _read(files[0], read)}, {}
    return read_each(dict(enumerate(files)), read)


def read_pictures(
    classifier: Classifier, files: Sequence[File], limits: Limits, is_single: bool
) -> tuple[Images, Errors]:
    """Read pictures of one digit each as images (n, 28, 28)."""
    read = partial(read_one, classifier=classifier, max_pixels=max_pixels(files, limits))
    images, errors = read_files(files, read, is_single)
    return np.array(list(images.values()), np.uint8).reshape(-1, *IMAGE_SIZE), errors


def read_bulk(images: Images, limits: Limits) -> tuple[Images, Errors]:
    """Read the images (N, 28, 28) that are not MNIST-shaped as pictures; keep the others."""
    with timed("read"):
        unusual = unusual_images(images)
    if len(unusual) > limits.max_pictures:
        raise RequestEntityTooLarge(
            f"{len(unusual):,} of {len(images):,} images are not in MNIST's format and would be "
            f"read as pictures; send at most {limits.max_pictures:,} of these"
        )
    if not len(unusual):
        return images, {}
    admit(len(unusual))
    read, errors = read_each({i: images[i] for i in unusual.tolist()}, read_levels)
    images = images.copy()
    for i, image in read.items():
        images[i] = image
    return np.delete(images, list(errors), axis=0), errors


def read_each(
    uploads: Mapping[int, Upload | BadRequest], read: Callable[[Upload], Result]
) -> tuple[dict[int, Result], Errors]:
    """Read uploads, or grey levels (28, 28); return the results and the errors by index."""
    results: dict[int, Result] = {}
    errors: Errors = {}
    for i, upload in uploads.items():
        try:
            results[i] = _read(upload, read)
        except ClientDisconnected:
            raise
        except HTTPException as error:
            errors[i] = problems.fields(error)
    return results, errors


def _read(upload: Upload | BadRequest, read: Callable[[Upload], Result]) -> Result:
    if isinstance(upload, BadRequest):
        raise upload
    metrics = extension().metrics
    try:
        with timed("read"):
            result = read(upload)
    except InvalidImage as error:
        raise unreadable(error, upload, metrics) from error
    metrics.count("digits_pictures", "read")
    return result


def unreadable(error: InvalidImage, upload: bytes | Images, metrics: Metrics) -> HTTPException:
    """Count a picture that cannot be read, and return the error to reply with."""
    if isinstance(error, UnknownFormat):
        metrics.count("digits_pictures", "unknown")
        return UnsupportedMediaType(f"{error}{hint(bytes(upload))}")
    metrics.count("digits_pictures", "refused")
    if isinstance(error, UnlikeDigits):
        count_unlike(metrics, error.is_digit)
    if isinstance(error, SeveralDigits):
        detail = f"{error}: ask with several=1, or send one"
        return problems.Refused(detail, n_digits=error.n_digits)
    return problems.Refused(str(error))


def score(classifier: Classifier, images: Images) -> Scores:
    """Score images (n, 28, 28), block by block."""
    probabilities = np.empty((len(images), len(classifier.classes)))
    is_digit = np.empty(len(images))
    for first in range(0, len(images), BLOCK):
        block = slice(first, first + BLOCK)
        with timed("score"):
            probabilities[block], p = classifier.score(images[block])
        if p is not None:
            is_digit[block] = p
    return Scores(probabilities, is_digit if classifier.detector else None)
