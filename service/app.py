"""The Flask application: routes that hand an upload on, and its probabilities back."""

import os
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from flask import Blueprint, Flask, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from service import problems
from service.classifier import ALL_CLASSES, Classifier, InvalidWeights, load
from service.errors import InvalidImage, UnknownFormat
from service.explain import explain
from service.images import read_image
from service.problems import Problem

EMBEDDED_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
FIELDS = ("image", "file")
MAX_BYTES = 16 * 2**20
MAX_PARTS = 10
MAX_FIELD_BYTES = 64 * 2**10
SIGNIFICANT_DIGITS = 7  # as many as the float32 logits carry

routes = Blueprint("digits", __name__)


def create_app(classifier: Classifier | None = None) -> Flask:
    """Build the service, for the classifier given or for the one DIGITS_WEIGHTS names.

    DIGITS_WEIGHTS is one path, or several separated by ":" of which the first that
    exists is served; without it, the file that ships with the package is. Exits with
    one sentence if that file cannot be served.
    """
    if classifier is None:
        try:
            classifier = load(_weights_path(os.environ.get("DIGITS_WEIGHTS", "")))
        except InvalidWeights as error:
            sys.exit(f"digits: {error}")
    app = Flask(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BYTES,
        MAX_FORM_PARTS=MAX_PARTS,
        MAX_FORM_MEMORY_SIZE=MAX_FIELD_BYTES,
        # its answer would be an empty page of HTML
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's
    app.extensions["classifier"] = classifier
    app.register_blueprint(routes)
    problems.init_app(app)
    return app


def _weights_path(setting: str) -> Path:
    paths = [Path(path) for path in setting.split(os.pathsep) if path]
    if setting and not paths:
        raise InvalidWeights(f"DIGITS_WEIGHTS is {setting!r}; name a file")
    for path in paths:
        try:
            if path.exists():
                return path
        except OSError as error:
            raise InvalidWeights(f"weights {path}: {error.strerror}") from error
    # where none exists, loading the last one says so
    return paths[-1] if paths else EMBEDDED_WEIGHTS


def _served() -> Classifier:
    classifier: Classifier = current_app.extensions["classifier"]
    return classifier


@routes.post("/predict")
def predict() -> dict[str, Any]:
    """Classify the one picture in the request."""
    try:
        image = read_image(_upload())
    except UnknownFormat as error:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
    except InvalidImage as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
    classifier = _served()
    reply = _prediction(classifier, classifier.predict_proba(image[np.newaxis])[0])
    if _is_asked_for("explain"):
        reply["explanation"] = explain(classifier, image)
    return reply


def _is_asked_for(option: str) -> bool:
    """Read an option of the query, which is 0 or 1."""
    value = request.args.get(option, "0")
    if value not in ("0", "1"):
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"{option} is {value!r}; set it to 0 or 1"
        )
    return value == "1"


def _prediction(
    classifier: Classifier, probabilities: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[str, Any]:
    """Put the probabilities (K,) of one image into the words of the reply."""
    values = [float(f"{p:.{SIGNIFICANT_DIGITS}g}") for p in probabilities]
    best = int(probabilities.argmax())
    reply = {
        "digit": classifier.classes[best],
        "probability": values[best],
        "probabilities": values,
        "model": classifier.version,
    }
    # only where a probability's index is not the digit itself
    if classifier.classes != ALL_CLASSES:
        reply["classes"] = list(classifier.classes)
    return reply


def _upload() -> bytes:
    """Take the picture's bytes out of the request, from a form or as its body."""
    if request.mimetype == "multipart/form-data":
        files = [file for name in FIELDS for file in request.files.getlist(name)]
        if len(files) != 1:
            # a part without a name is None
            names = sorted(map(str, {*request.files, *request.form}))
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                f"the form has {len(files)} files in 'image' or 'file' (its fields: "
                f"{', '.join(map(repr, names)) or 'none'}); send one: "
                "curl -F image=@digit.png",
            )
        upload: bytes = files[0].read()
    elif request.mimetype.startswith("image/") or _is_empty():
        upload = request.get_data(cache=False)
        # a chunked body over the limit is cut there, where a declared one is refused
        if request.content_length is None and len(upload) >= MAX_BYTES:
            raise RequestEntityTooLarge
    else:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"a body of type {request.mimetype!r} is not taken; send "
            "multipart/form-data with the picture in 'image', or the picture itself "
            "with its image/* type",
        )
    if not upload:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "there is no picture in the request; send one: curl -F image=@digit.png",
        )
    return upload


def _is_empty() -> bool:
    return not request.content_length and "Transfer-Encoding" not in request.headers


@routes.get("/livez")
def livez() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "alive"}


@routes.get("/readyz")
def readyz() -> dict[str, str]:
    """Answer once weights are loaded; before that, nothing listens."""
    return {"status": "ready", "model": _served().version}


@routes.get("/model")
def model() -> dict[str, Any]:
    """Tell what is served: how it was trained, how well it reads the test set."""
    classifier = _served()
    return {
        "model": classifier.version,
        "features": classifier.features,
        "classes": list(classifier.classes),
        "training": dict(classifier.training),
        "evaluation": dict(classifier.evaluation),
    }
