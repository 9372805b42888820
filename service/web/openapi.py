"""The OpenAPI document: the one declaration of routes, methods and statuses.

In openapi.json, an operationId is the name of the view function, and an operation with
`security` requires an API key on services that have any. Limits and version replace the
names in braces.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service import __version__
from service.settings import DEFAULT_LIMITS, Limits

Object = dict[str, Any]

FILE = Path(__file__).with_name("openapi.json")
# replies to any request, most of them sent by the server before the application runs
ANY_REQUEST = ("400", "408", "413", "414", "417", "431", "503", "default")
DEFAULT = ("404", "405", "500")  # what "default" stands for


def describe(limits: Limits = DEFAULT_LIMITS) -> Object:
    """Return the OpenAPI document of a service with these limits."""
    text = FILE.read_text("utf-8").replace("{version}", __version__)
    for name, limit in limits._asdict().items():
        text = text.replace(f"{{{name}}}", f"{limit:,}")
    document: Object = json.loads(text)
    document["components"]["schemas"]["Pictures"]["maxItems"] = limits.max_pictures
    any_request = {status: {"$ref": f"#/components/responses/{status}"} for status in ANY_REQUEST}
    for _, _, operation in operations(document):
        operation["responses"] = dict(sorted((operation["responses"] | any_request).items()))
    return document


def operations(document: Object) -> Iterator[tuple[str, str, Object]]:
    """Yield the path and the method of every operation, in the order of the document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def statuses(document: Object) -> tuple[str, ...]:
    """Return every status that a reply may have."""
    errors = document["components"]["responses"].keys() - {"default"}
    return tuple(sorted({"200", *errors, *DEFAULT}))
