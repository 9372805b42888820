"""The description, held to what is described."""

import io
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import create_app
from service.settings import DEFAULT_LIMITS
from service.web.families import ROUTES
from service.web.openapi import HERE, describe
from tests.conftest import ROOT, encode, running_service

DOCUMENT = describe(DEFAULT_LIMITS)


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
    assert {path for path, _ in described} == set(ROUTES)


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


@pytest.mark.parametrize(
    "operation",
    [
        (path, method, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    ],
    ids=lambda operation: operation[0],
)
def test_every_operation_says_how_it_is_named_and_refused(operation):
    _, _, described = operation

    assert described["summary"].endswith(".")
    assert described["operationId"]
    for response in described["responses"].values():
        assert response["description"]
    assert {"200", "503", "default"} <= set(described["responses"])


def test_requests_made_from_the_description_are_answered_as_it_says(weights, tmp_path):
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_headers_conformance,response_schema_conformance,unsupported_method"
    )
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        run = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                *("run", f"{service.url}/openapi.json", "--checks", checks),
                *("--max-examples", "40", "--seed", "1", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run.returncode == 0, run.stdout[-5000:] + run.stderr
    generated, passed = re.search(r"(\d+) generated, (\d+) passed", run.stdout).groups()
    assert generated == passed
    assert int(passed) >= 100


def test_samples_that_are_shown_are_answered(weights):
    samples = DOCUMENT["paths"]["/predict"]["post"]["x-codeSamples"]
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        for sample in samples:
            command = sample["source"].replace(HERE, service.url)
            run = subprocess.run(
                command, shell=True, cwd=ROOT, capture_output=True, check=True
            )
            assert run.stdout.startswith(b'{"digit":')
