"""The routes of the Open Inference Protocol v2."""

from typing import Any

import numpy as np
from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from service import __version__
from service.classifier import Classifier, Scores
from service.features import IMAGE_SIZE
from service.server.wsgi_keys import ROUTE
from service.web import steps
from service.web.bulk import BYTES
from service.web.extension import extension
from service.web.families import count_predictions
from service.web.operations import ready
from service.web.prediction_json import JSON
from service.web.problems import SHOWN, error_of
from service.web.tensors import INPUT, decompress, parse_inference, write_inference
from service.web.uploads import read_body

NAME = "digits"  # of the model
OF_VERSION = "_of_version"  # end of the operationIds whose path names a version
HEADER_LENGTH = "Inference-Header-Content-Length"


def init_app(app: Flask) -> None:
    """Count requests for a version as those for the model; a metric has few labels."""

    @app.before_request
    def omit_version() -> None:
        if version := (request.view_args or {}).get("model_version"):
            request.environ[ROUTE] = request.path.replace(f"/versions/{version}", "")


def v2_server() -> dict[str, Any]:
    """Describe the server."""
    return {"name": NAME, "version": __version__, "extensions": ["binary_tensor_data"]}


def v2_live() -> dict[str, bool]:
    """Report that the process is running."""
    return {"live": True}


def v2_ready() -> dict[str, bool]:
    """Report that requests can be served, as /readyz does."""
    ready()
    return {"ready": True}


def v2_model_ready(model_version: str | None = None) -> dict[str, Any]:
    """Report that the model can serve requests."""
    return {"name": NAME, "version": _model(model_version).version} | v2_ready()


def v2_model(model_version: str | None = None) -> dict[str, Any]:
    """Describe the model: its version, its input and its outputs."""
    classifier = _model(model_version)
    shapes = {"probabilities": [-1, len(classifier.classes)]}
    datatypes = {"digit": "INT64"}
    return {
        "name": NAME,
        "versions": [classifier.version],
        "platform": "numpy_safetensors",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *IMAGE_SIZE]}],
        "outputs": [
            {"name": k, "datatype": datatypes.get(k, "FP32"), "shape": shapes.get(k, [-1])}
            for k in _outputs(classifier)
        ],
    }


def v2_infer(model_version: str | None = None) -> Response:
    """Classify the images of a tensor."""
    classifier, limits = _model(model_version), extension().limits
    body = read_body(limits)
    steps.admit(len(body) / steps.BYTES_PER_COST)
    with steps.timed("read"):
        body = decompress(body, request.headers.get("Content-Encoding", "").lower(), limits)
        length = request.headers.get(HEADER_LENGTH)
        inference = parse_inference(body, length, _outputs(classifier), limits)
    if inference.images is not None:
        images, errors = steps.read_bulk(inference.images, limits)
    else:
        steps.admit(steps.cost_of(inference.files, 0, limits))
        images, errors = steps.read_pictures(classifier, inference.files, limits, is_single=False)
    for i, error in sorted(errors.items()):  # a tensor has no place for it
        raise error_of(error["status"], f"image {i}: {error['detail']}")
    scores = steps.score(classifier, images)
    refused = classifier.refused(scores)
    count_predictions(extension().metrics, classifier.classes, scores, refused)
    head = {"model_name": NAME, "model_version": classifier.version}
    if inference.id is not None:
        head["id"] = inference.id
    reply, json_length = write_inference(head, _tensors(classifier, scores), inference.outputs)
    if json_length is None:
        return Response(reply, content_type=JSON)
    return Response(reply, headers={HEADER_LENGTH: str(json_length)}, content_type=BYTES)


VIEWS = (v2_server, v2_live, v2_ready, v2_model, v2_model_ready, v2_infer)


def _model(version: str | None) -> Classifier:
    """Return the current classifier; raise NotFound if it is of another version."""
    classifier = extension().models.current()
    if version not in (None, classifier.version):
        raise NotFound(
            f"version {str(version)[:SHOWN]!r} of the model {NAME!r} is not in service; "
            f"the version is {classifier.version!r}"
        )
    return classifier


def _outputs(classifier: Classifier) -> tuple[str, ...]:
    """Return the names of the outputs."""
    return ("probabilities", "digit", *(["is_digit"] if classifier.detector else []))


def _tensors(classifier: Classifier, scores: Scores) -> dict[str, Any]:
    """Return the outputs (N, K), (N,) and (N,), in the protocol's byte order."""
    probabilities = scores.probabilities
    digits = np.array(classifier.classes)[probabilities.argmax(axis=1)]
    tensors = {"probabilities": probabilities.astype("<f4"), "digit": digits.astype("<i8")}
    if scores.is_digit is not None:
        tensors["is_digit"] = scores.is_digit.astype("<f4")
    return tensors
