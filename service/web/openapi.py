"""The OpenAPI document: the one declaration of routes, methods and statuses.

In openapi.json, an operationId is the name of the view function, and an operation with
`security` requires an API key on services that have any. Limits and version replace the
names in braces.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from service import __version__
from service.settings import Limits
from service.web.problems import MEDIA_TYPE

Object = dict[str, Any]

FILE = Path(__file__).with_name("openapi.json")
# replies to any request, most of them sent by the server before the application runs
ANY_REQUEST = ("400", "408", "413", "414", "417", "431", "503", "default")
DEFAULT = ("404", "405", "500")  # what "default" stands for
WITHOUT_BODY = ("304",)
PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class Route(NamedTuple):
    """A path and a method of the API, and the name of its view function."""

    path: str
    method: str
    endpoint: str
    requires_key: bool


def describe(limits: Limits) -> Object:
    """Return the OpenAPI document of a service with these limits."""
    text = _template().replace("{version}", __version__)
    for name, limit in limits._asdict().items():
        text = text.replace(f"{{{name}}}", f"{limit:,}")
    document: Object = json.loads(text)
    components = document["components"]
    components["schemas"]["Pictures"]["maxItems"] = limits.max_pictures
    errors = components["responses"]
    for status in errors.keys() - WITHOUT_BODY:
        errors[status]["content"] = PROBLEM
    replies = list(errors.values())
    refs = {status: {"$ref": f"#/components/responses/{status}"} for status in errors}
    any_request = {status: refs[status] for status in ANY_REQUEST}
    for _, _, operation in _operations(document):
        replies.append(operation["responses"]["200"])
        responses = operation["responses"] | any_request
        operation["responses"] = dict(sorted(responses.items()))
    for reply in replies:
        request_id = {"$ref": "#/components/headers/X-Request-ID"}
        reply["headers"] = {"X-Request-ID": request_id} | reply.get("headers", {})
    return document


@functools.cache
def routes() -> tuple[Route, ...]:
    """Return the routes in the order of the document."""
    return tuple(
        Route(path, method.upper(), operation["operationId"], "security" in operation)
        for path, method, operation in _operations(json.loads(_template()))
    )


@functools.cache
def statuses() -> tuple[str, ...]:
    """Return every status that a reply may have."""
    errors = json.loads(_template())["components"]["responses"].keys() - {"default"}
    return tuple(sorted({"200", *errors, *DEFAULT}))


def _operations(document: Object) -> Iterator[tuple[str, str, Object]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


@functools.cache
def _template() -> str:
    return FILE.read_text("utf-8")
