"""The description, held to what is described."""

import io

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import create_app
from service.metrics import OTHER, ROUTES
from service.openapi import describe
from tests.conftest import encode

DOCUMENT = describe()


def test_description_is_valid_and_served(client):
    OpenAPIV31SpecValidator(DOCUMENT).validate()

    assert client.get("/openapi.json").json == DOCUMENT


def test_routes_and_methods_are_those_described_and_those_counted(classifier):
    served = {
        (rule.rule, method.lower())
        for rule in create_app(classifier).url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    described = {
        (path, method) for path, item in DOCUMENT["paths"].items() for method in item
    }
    assert served == described
    assert {path for path, _ in described} == set(ROUTES) - {OTHER}


def is_described(reply, path: str, method: str = "get") -> None:
    """Hold a reply's status, type and body to its description."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    content = responses[str(reply.status_code)]["content"]
    schema = content[reply.mimetype]["schema"]
    if reply.is_json:
        jsonschema.validate(reply.json, schema | {"components": DOCUMENT["components"]})


@pytest.mark.parametrize("path", [p for p in DOCUMENT["paths"] if p != "/predict"])
def test_replies_of_routes_are_as_described(client, path):
    reply = client.get(path)

    assert reply.status_code == 200
    is_described(reply, path)


@pytest.mark.parametrize(
    ("query", "n_pictures", "kind", "status"),
    [
        ("", 1, None, 200),
        ("", 2, None, 200),
        ("?explain=1", 1, None, 200),
        ("", 1, "application/x-npy", 200),
        ("?explain=2", 1, None, 400),
        ("", 0, None, 400),
        ("", -1, None, 415),
    ],
)
def test_replies_to_pictures_are_as_described(
    client, drawn, query, n_pictures, kind, status
):
    uploads = [encode(image) for image in drawn.test.images[: max(n_pictures, 0)]]
    uploads += [b"no picture"] * (n_pictures < 0)
    files = [(io.BytesIO(upload), "x.png") for upload in uploads]

    reply = client.post(
        f"/predict{query}",
        data={"image": files} if files else {"note": (io.BytesIO(b"x"), "x")},
        headers={"Accept": kind} if kind else {},
    )

    assert reply.status_code == status
    is_described(reply, "/predict", "post")
