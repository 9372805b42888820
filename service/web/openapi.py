"""The service's description in OpenAPI 3.1, for programs and for who writes them."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from service import __version__
from service.features import IMAGE_SIZE, MAX_GREY
from service.settings import Limits
from service.web.bulk import BYTES, NPY
from service.web.prediction_json import JSON
from service.web.problems import MEDIA_TYPE

Object = dict[str, Any]
METHODS = ("get", "post")
FORM = "multipart/form-data"
PAGES = ("text/html", "text/css", "text/javascript")
HERE = "http://127.0.0.1:8000"  # in examples

# of any request: what the worker answers before the application is asked
WORKERS_OWN = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.EXPECTATION_FAILED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
WHEN = {
    HTTPStatus.OK: "The answer.",
    HTTPStatus.NOT_MODIFIED: "What the client has is still so.",
    HTTPStatus.BAD_REQUEST: "No picture, a malformed body, or what is not HTTP.",
    HTTPStatus.UNAUTHORIZED: "No key that is known here, where keys are set.",
    HTTPStatus.REQUEST_TIMEOUT: "The request was not whole in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "More than this service takes at once.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "Too long a line.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Not a picture in one of the five formats.",
    HTTPStatus.EXPECTATION_FAILED: "An Expect other than 100-continue.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A picture without a digit in it, or broken.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Too large a head.",
    HTTPStatus.SERVICE_UNAVAILABLE: "It is busy, or stopping: come again.",
}
# headers of the replies of a status, and of all
HEADERS = {
    HTTPStatus.UNAUTHORIZED: "WWW-Authenticate",
    HTTPStatus.SERVICE_UNAVAILABLE: "Retry-After",
}
REQUEST_ID = "X-Request-ID"


def describe(limits: Limits) -> Object:
    """Describe every route, and all it may answer, within these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "digits",
            "version": __version__,
            "summary": "Reads handwritten digits.",
            "description": (
                "Every refusal is a problem of RFC 9457 whose detail says what was "
                "wrong and what to do."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": _paths(limits),
        "components": {
            "schemas": _schemas(),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in {
                    REQUEST_ID: "The client's own, or a new one; in the log too.",
                    "Retry-After": "Seconds.",
                    "WWW-Authenticate": "How to bring a key.",
                }.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _paths(limits: Limits) -> Object:
    gets = {
        "/livez": _get("live", "The process answers.", _status("alive")),
        "/readyz": _get(
            "ready",
            "It can classify; 503 once it is told to stop.",
            _status("ready", model={"type": "string"}),
        ),
        "/model": _get(
            "model", "What is served.", {"$ref": _schema("Model")}, is_kept=True
        ),
        "/metrics": _get("metrics", "Counts for Prometheus.", kind="text/plain"),
        "/openapi.json": _get("openapi", "This description.", {"type": "object"}),
        "/docs": _get("docs", "This description, for people.", kind="text/html"),
        "/": _get("page", "A page to draw a digit on, for people.", kind="text/html"),
        "/script.js": _get("script", "What that page does.", kind="text/javascript"),
        "/style.css": _get("style", "How the pages look.", kind="text/css"),
    }
    paths = {path: {"get": operation} for path, operation in gets.items()}
    return {"/predict": {"post": _predict(limits)}} | paths


def _predict(limits: Limits) -> Object:
    picture = {"type": "string", "contentMediaType": "image/*"}
    pictures = {"type": "array", "items": picture, "maxItems": limits.max_pictures}
    array = {"type": "string", "contentMediaType": NPY}
    size = " x ".join(map(str, IMAGE_SIZE))
    bodies = {
        FORM: {
            "type": "object",
            "properties": {"image": pictures, "file": pictures},
            "description": (
                f"Up to {limits.max_pictures:,} pictures, all as image or all as file; "
                "each is answered or refused in its place."
            ),
        },
        "image/*": picture
        | {
            "description": (
                "One picture: PNG, JPEG, GIF, BMP or WEBP, of up to "
                f"{limits.max_pixels:,} pixels."
            )
        },
        BYTES: {
            "type": "string",
            "contentMediaType": BYTES,
            "description": (
                f"Up to {limits.max_images:,} images of {size} grey levels, light on "
                "dark, row by row."
            ),
        },
        NPY: array
        | {"description": f"The same as uint8 (N, {size.replace(' x', ',')})."},
    }
    return {
        "summary": "Classify a picture, several, or images in bulk.",
        "description": f"{limits.max_bytes:,} bytes at most.",
        "operationId": "predict",
        "x-codeSamples": [
            {"lang": "sh", "source": f"curl -F image=@docs/digit.png {HERE}/predict"},
            {
                "lang": "sh",
                "source": f'curl -F image=@docs/digit.png "{HERE}/predict?explain=1"',
            },
        ],
        "parameters": [
            _option("explain", "1 adds why; for one picture, answered as JSON."),
            _option("timing", "1 adds Server-Timing: the milliseconds of each step."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": schema}
                | (
                    {"encoding": {"image": {"contentType": "image/*"}}}
                    if kind == FORM
                    else {}
                )
                for kind, schema in bodies.items()
            },
        },
        "responses": _responses(
            {
                JSON: {
                    "schema": {
                        "oneOf": [
                            {"$ref": _schema("Prediction")},
                            {"$ref": _schema("Predictions")},
                        ]
                    },
                    "example": {
                        "digit": 7,
                        "probability": 0.9981,
                        "probabilities": [0.0] * 7 + [0.9981, 0.0011, 0.0008],
                        "model": "a209be96a06b",
                    },
                },
                NPY: {"schema": array},
            },
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        ),
        "security": _KEPT,
    }


def _option(name: str, description: str) -> Object:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", "enum": ["0", "1"]},
    }


# with a key of either kind, or with none where none are set
_KEPT: list[Object] = [{}, {"bearer": []}, {"key": []}]


def _get(
    name: str,
    summary: str,
    schema: Object | None = None,
    kind: str = JSON,
    is_kept: bool = False,
) -> Object:
    is_kept_by_browsers = kind in PAGES
    content = {kind: {"schema": schema or {"type": "string"}}}
    more = (HTTPStatus.UNAUTHORIZED,) if is_kept else ()
    operation: Object = {
        "summary": summary,
        "operationId": name,
        "responses": _responses(content, *more),
    }
    if is_kept_by_browsers:
        not_modified = _response(HTTPStatus.NOT_MODIFIED, {})
        operation["responses"][str(int(HTTPStatus.NOT_MODIFIED))] = not_modified
    return operation | ({"security": _KEPT} if is_kept else {})


def _responses(content: Object, *more: HTTPStatus) -> Object:
    problem = {MEDIA_TYPE: {"schema": {"$ref": _schema("Problem")}}}
    responses = {str(int(HTTPStatus.OK)): _response(HTTPStatus.OK, content)}
    for status in sorted({*WORKERS_OWN, *more}):
        responses[str(int(status))] = _response(status, problem)
    responses["default"] = {
        "description": "Any other refusal: 404, 405, or 500 where the fault is ours.",
        "content": problem,
    }
    return responses


def _response(status: HTTPStatus, content: Object) -> Object:
    names = [REQUEST_ID, *([HEADERS[status]] if status in HEADERS else [])]
    return {
        "description": WHEN[status],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": content,
    }


def _schema(name: str) -> str:
    return f"#/components/schemas/{name}"


def _status(value: str, **more: Object) -> Object:
    return _object(status={"const": value}, **more)


def _object(optional: Iterable[str] = (), **properties: Object) -> Object:
    """Describe an object that has all of these but the optional ones."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _array(items: Object, *description: str, n: int | None = None) -> Object:
    array: Object = {"type": "array", "items": items}
    if description:
        array["description"] = " ".join(description)
    return array | ({} if n is None else {"minItems": n, "maxItems": n})


def _schemas() -> Object:
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    grey = {"type": "integer", "minimum": 0, "maximum": MAX_GREY}
    string, free, number = {"type": "string"}, {"type": "object"}, {"type": "number"}
    classes = _array(digit, "where they are not all ten")
    answer: Object = {
        "digit": digit,
        "probability": probability,
        "probabilities": _array(probability, "of the classes, in their order"),
    }
    slots = {"oneOf": [_object(**answer), _object(error={"$ref": _schema("Problem")})]}
    height, width = IMAGE_SIZE
    region = _object(
        outline=_array(_array(number, n=2), "corners x, y in pixels", n=4),
        evidence=number | {"description": "for the answer, beyond the runner-up's"},
        logits=_array(number, "what it adds to each class's"),
    )
    return {
        "Prediction": _object(
            optional=("classes", "explanation"),
            **answer,
            explanation={"$ref": _schema("Explanation")},
            model=string,
            classes=classes,
        ),
        "Predictions": _object(
            optional=("classes",),
            predictions=_array(slots),
            model=string,
            classes=classes,
        ),
        "Explanation": _object(
            image=_array(_array(grey, n=width), "what the model saw", n=height),
            answer=digit,
            runner_up=digit,
            logits=_array(number),
            bias=_array(number),
            regions=_array(region),
        ),
        "Model": _object(
            model=string,
            features=string,
            classes=_array(digit),
            training=free,
            evaluation=free,
        ),
        "Problem": _object(
            type=string, title=string, status={"type": "integer"}, detail=string
        ),
    }
