"""The prediction for one picture, without Flask."""

from typing import Any

import numpy as np
from werkzeug.exceptions import HTTPException

from service.classifier import Classifier, Scores
from service.images import InvalidImage
from service.number import read_with_scores
from service.server.wsgi_keys import ADMIT, IS_CANCELLED
from service.web.extension import Extension
from service.web.families import count_predictions
from service.web.nondigits import refusals
from service.web.steps import cost_of, unreadable

# the scores of some images and the index of this one among them, or an error
Result = tuple[Classifier, Scores, int] | HTTPException


def answer(
    extension: Extension, upload: bytes, environ: dict[str, Any], cost: float | None
) -> Result | None:
    """Read and score one picture while no other thread computes.

    cost: of the request, in small pictures, if it is known. Return None if the application
    is to answer instead: the server has too much work, the client has left, or the service
    fails.
    """
    limits, classifier = extension.limits, extension.models.current()
    n_bytes = int(environ["CONTENT_LENGTH"])
    is_admitted = ADMIT not in environ or environ[ADMIT](cost or cost_of([upload], n_bytes, limits))
    environ[ADMIT] = lambda _: is_admitted  # the application does not ask again
    if not is_admitted:
        return None
    # once, not for each step: all requests that wait would take a turn in between
    with extension.compute_lock.ahead():
        if environ.get(IS_CANCELLED, bool)():
            return None
        try:
            max_pixels = min(limits.max_pixels, limits.max_pixels_together)
            image, scores = read_with_scores(upload, classifier, max_pixels)
            scores = scores or classifier.score(image[np.newaxis])
        except InvalidImage as error:
            return unreadable(error, upload, extension.metrics)
        except Exception:  # the application raises and logs it again
            return None
    extension.metrics.count("digits_pictures", "read")
    refused = refusals(classifier, scores)
    count_predictions(extension.metrics, classifier.classes, scores, refused)
    return refused.get(0) or (classifier, scores, 0)
