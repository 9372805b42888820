"""The service's description in OpenAPI 3.1, for programs and for who writes them."""

from http import HTTPStatus
from typing import Any

from service import __version__
from service.arrays import BYTES, NPY
from service.limits import MAX_BYTES, MAX_IMAGES, MAX_PICTURES
from service.problems import MEDIA_TYPE
from service.replies import JSON

Object = dict[str, Any]
FORM = "multipart/form-data"

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
UNKNOWN = (HTTPStatus.UNAUTHORIZED,)
UNREADABLE = (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY)


def describe() -> Object:
    """Describe every route, and all it may answer."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "digits",
            "version": __version__,
            "summary": "Reads handwritten digits.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            "/predict": {"post": _predict()},
            "/livez": {"get": _get("The process answers.", _status("alive"))},
            "/readyz": {
                "get": _get(
                    "It can classify; 503 once it is told to stop.",
                    _status("ready", model={"type": "string"}),
                )
            },
            "/model": {
                "get": _get(
                    "What is served.", {"$ref": _schema("Model")}, JSON, UNKNOWN
                )
            },
            "/metrics": {"get": _get("Counts for Prometheus.", kind="text/plain")},
            "/openapi.json": {"get": _get("This document.", {"type": "object"})},
        },
        # where DIGITS_API_KEYS is set, of these either
        "security": [{}, {"bearer": []}, {"key": []}],
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _predict() -> Object:
    picture = {"type": "string", "contentMediaType": "image/*"}
    pictures = {"type": "array", "items": picture, "maxItems": MAX_PICTURES}
    array = {"type": "string", "contentMediaType": NPY}
    return {
        "summary": "Classify a picture, several, or images in bulk.",
        "description": (
            "A picture in a form, several in their order, or one as the body; "
            f"or up to {MAX_IMAGES:,} images of 28 x 28 as N x 784 bytes or as .npy. "
            f"{MAX_BYTES:,} bytes at most."
        ),
        "operationId": "predict",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "description": "1 adds why; for one picture, answered as JSON.",
                "schema": {"type": "string", "enum": ["0", "1"]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "properties": {"image": pictures, "file": pictures},
                    },
                    "encoding": {"image": {"contentType": "image/*"}},
                },
                "image/*": {"schema": picture},
                BYTES: {"schema": {"type": "string", "contentMediaType": BYTES}},
                NPY: {"schema": array},
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
                        "model": "7ce17ff571f1",
                    },
                },
                NPY: {"schema": array},
            },
            UNREADABLE + UNKNOWN,
        ),
    }


def _get(
    summary: str,
    schema: Object | None = None,
    kind: str = JSON,
    more: tuple[HTTPStatus, ...] = (),
) -> Object:
    content = {kind: {"schema": schema or {"type": "string"}}}
    return {"summary": summary, "responses": _responses(content, more)}


def _responses(content: Object, more: tuple[HTTPStatus, ...] = ()) -> Object:
    responses: Object = {"200": {"description": "The answer.", "content": content}}
    for status in sorted({*WORKERS_OWN, *more}):
        responses[str(int(status))] = {
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": _schema("Problem")}}},
        }
    return responses


def _schema(name: str) -> str:
    return f"#/components/schemas/{name}"


def _status(value: str, **more: Object) -> Object:
    return _object(status={"const": value}, **more)


def _object(**properties: Object) -> Object:
    """Describe an object that has all of these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _schemas() -> Object:
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    string, free = {"type": "string"}, {"type": "object"}
    answer: Object = {
        "digit": digit,
        "probability": probability,
        "probabilities": {
            "type": "array",
            "items": probability,
            "description": "of the classes, in their order",
        },
    }
    problem = _object(
        type=string, title=string, status={"type": "integer"}, detail=string
    )
    slots = {"oneOf": [_object(**answer), _object(error={"$ref": _schema("Problem")})]}
    return {
        "Prediction": _object(**answer, model=string),
        "Predictions": _object(
            predictions={"type": "array", "items": slots}, model=string
        ),
        "Model": _object(
            model=string,
            features=string,
            classes={"type": "array", "items": digit},
            training=free,
            evaluation=free,
        ),
        "Problem": problem,
    }
