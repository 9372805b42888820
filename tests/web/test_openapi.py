"""The OpenAPI document, held to the replies that it describes."""

import io
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import create_app
from service.settings import DEFAULT_LIMITS, Limits
from service.web.families import new_metrics
from service.web.openapi import describe
from tests.conftest import ROOT, encode

DOCUMENT = describe(DEFAULT_LIMITS)
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def response_of(operation: dict, status: str) -> dict:
    """Return the description of a response, wherever the document has it."""
    response = operation["responses"][status]
    name = response.get("$ref", "").removeprefix("#/components/responses/")
    return DOCUMENT["components"]["responses"][name] if name else response


def test_document_is_valid_and_served(client):
    OpenAPIV31SpecValidator(DOCUMENT).validate()

    assert client.get("/openapi.json").json == DOCUMENT | {"servers": [{"url": "/"}]}


def test_routes_of_the_application_are_those_of_the_document(classifier):
    served = {
        (rule.rule.translate(str.maketrans("<>", "{}")), method.lower())
        for rule in create_app(classifier).url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert served == {(path, method) for path, method, _ in OPERATIONS}


def test_every_described_route_method_and_status_has_its_own_metric_label():
    metrics = new_metrics()
    for path, method, operation in OPERATIONS:
        # requests for a version of the model count as those for the model
        if "{model_version}" in path:
            continue
        for status in operation["responses"].keys() - {"default"}:
            metrics.request(path, method.upper(), status, 0.001)
    for status in ("404", "405", "500"):
        metrics.request("/predict", "HEAD", status, 0.001)

    text = metrics.text({})[0].decode()

    counted = [line for line in text.splitlines() if line.startswith("digits_requests")]
    assert not [line for line in counted if '"other"' in line]


def test_limits_appear_where_they_apply():
    document = describe(Limits(max_bytes=70_000, max_pictures=7, max_images=8_000))

    text = json.dumps(document)
    assert "70,000 bytes" in text
    assert "Up to 7 pictures" in text
    assert "Up to 8,000 images" in text
    assert document["components"]["schemas"]["Pictures"]["maxItems"] == 7
    assert set(re.findall(r"{\w+}", text)) == {"{model_version}", "{module}", "{sheet}"}


def is_described(reply, path: str, method: str = "get") -> None:
    """Hold a reply's status, type and body to its description."""
    operation = DOCUMENT["paths"][path][method]
    content = response_of(operation, str(reply.status_code))["content"]
    schema = content[reply.mimetype]["schema"]
    if reply.is_json:
        jsonschema.validate(reply.json, schema | {"components": DOCUMENT["components"]})


@pytest.mark.parametrize("path", [path for path, method, _ in OPERATIONS if method == "get"])
def test_replies_of_routes_are_as_described(client, path):
    version = client.get("/model").json["model"]
    reply = client.get(
        path.replace("{model_version}", version)
        .replace("{module}", "page")
        .replace("{sheet}", "docs")
    )

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
def test_replies_to_pictures_are_as_described(client, drawn, query, n_pictures, kind, status):
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


@pytest.mark.parametrize("query", ["", "?explain=1"])
def test_replies_with_the_probability_of_a_digit_are_as_described(detecting_client, drawn, query):
    posted = [{"image": (io.BytesIO(encode(image)), "x.png")} for image in drawn.test.images[:10]]
    replies = [detecting_client.post(f"/predict{query}", data=data) for data in posted]
    bulk = drawn.test.images[:10].tobytes()
    replies.append(
        detecting_client.post("/predict", data=bulk, content_type="application/octet-stream")
    )

    for reply in replies:
        is_described(reply, "/predict", "post")
    is_described(detecting_client.get("/model"), "/model")
    assert {reply.status_code for reply in replies} == {200, 422}
    for reply in replies[:10]:
        assert "is_digit" in reply.json
        assert ("explanation" in reply.json) == bool(query)


@pytest.mark.parametrize(
    "operation", [operation for _, _, operation in OPERATIONS], ids=lambda o: o["summary"]
)
def test_every_operation_has_a_name_a_summary_and_described_responses(operation):
    assert operation["summary"].endswith(".")
    assert operation["operationId"]
    assert {"200", "503", "default"} <= set(operation["responses"])
    for status in operation["responses"]:
        response = response_of(operation, status)
        assert response["description"]
        assert "X-Request-ID" in response["headers"]


@pytest.mark.slow
def test_requests_generated_from_the_document_are_answered_as_described(service, tmp_path):
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_headers_conformance,response_schema_conformance,unsupported_method"
    )
    with urllib.request.urlopen(f"{service.url}/readyz") as reply:
        version = json.load(reply)["model"]
    (tmp_path / "schemathesis.toml").write_text(f'[parameters]\nmodel_version = "{version}"\n')
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


def test_code_samples_are_answered_with_a_prediction(service):
    for sample in DOCUMENT["paths"]["/predict"]["post"]["x-codeSamples"]:
        command = sample["source"].replace("http://127.0.0.1:8000", service.url)
        run = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, check=True)
        assert run.stdout.startswith(b'{"digit":')
