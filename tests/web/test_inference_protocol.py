"""The Open Inference Protocol v2: what its clients send, and what they could send wrong."""

import base64
import gzip
import json
import zlib

import numpy as np
import pytest

from service.app import create_app
from service.server.wsgi_keys import BUSY, ROUTE, STOPPING
from service.settings import read_settings
from tests.conftest import encode

ROOT = "/v2/models/digits"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def images(drawn) -> np.ndarray:
    return drawn.test.images[:3]


def tensor(shape, datatype: str = "UINT8", **more) -> dict:
    return {"name": "image", "shape": shape, "datatype": datatype, **more}


def infer(client, inputs, binary: bytes | None = None, headers=(), path="/infer", **more):
    """Post a request; without a content type, as clients do."""
    listed = inputs if isinstance(inputs, list) else [inputs]
    text = json.dumps({"inputs": listed, **more}).encode()
    headers = dict(headers)
    if binary is not None:
        headers.setdefault(LENGTH, str(len(text)))
    return client.post(f"{ROOT}{path}", data=text + (binary or b""), headers=headers)


def outputs_of(reply) -> dict[str, np.ndarray]:
    """Return the outputs of a reply, binary or not."""
    assert reply.status_code == 200, reply.text
    n = int(reply.headers.get(LENGTH, len(reply.data)))
    head, rest = json.loads(reply.data[:n]), reply.data[n:]
    assert (LENGTH in reply.headers) == (reply.mimetype == "application/octet-stream")
    found = {}
    for output in head["outputs"]:
        kind = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        array = np.array(output["data"], kind) if size is None else np.frombuffer(rest[:size], kind)
        rest = rest[size or 0 :]
        found[output["name"]] = array.reshape(output["shape"])
    assert not rest
    return found


def bytes_of(*uploads: bytes) -> bytes:
    return b"".join(len(upload).to_bytes(4, "little") + upload for upload in uploads)


def test_health_server_and_model_are_described_as_the_protocol_says(detecting_client, detecting):
    get = detecting_client.get
    version = detecting.version

    assert get("/v2/health/live").json == {"live": True}
    assert get("/v2/health/ready").json == {"ready": True}
    assert get("/v2").json["extensions"] == ["binary_tensor_data"]
    model = get(ROOT).json
    assert model == get(f"{ROOT}/versions/{version}").json
    assert (model["name"], model["versions"]) == ("digits", [version])
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [(t["name"], t["datatype"], t["shape"]) for t in model["outputs"]] == [
        ("probabilities", "FP32", [-1, 10]),
        ("digit", "INT64", [-1]),
        ("is_digit", "FP32", [-1]),
    ]
    for path in (f"{ROOT}/ready", f"{ROOT}/versions/{version}/ready"):
        assert get(path).json["ready"] is True


@pytest.mark.parametrize("key", [STOPPING, BUSY])
def test_readiness_fails_as_that_of_readyz(client, key):
    for path in ("/v2/health/ready", f"{ROOT}/ready"):
        reply = client.get(path, environ_overrides={key: True})
        assert reply.status_code == 503
        assert reply.json["error"] == reply.json["detail"]
        assert reply.headers["Retry-After"]
    assert client.get("/v2/health/live", environ_overrides={key: True}).status_code == 200


@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize(
    "layout",
    ["nested", "flat", "floats", "rows of 784", "binary", "binary rows", "BYTES", "base64"],
)
def test_every_layout_gets_the_same_outputs(detecting_client, detecting, images, layout, output):
    pngs = [encode(image) for image in images]
    data, binary = {
        "nested": (images.tolist(), None),
        "flat": (images.ravel().tolist(), None),
        "floats": (images.ravel().astype(float).tolist(), None),
        "rows of 784": (images.reshape(3, 784).tolist(), None),
        "binary": (None, images.tobytes()),
        "binary rows": (None, images.tobytes()),
        "BYTES": (None, bytes_of(*pngs)),
        "base64": ([base64.b64encode(png).decode() for png in pngs], None),
    }[layout]
    is_bytes = layout in ("BYTES", "base64")
    shape = [3] if is_bytes else [3, 784] if "rows" in layout else [3, 28, 28]
    more = {"data": data} if binary is None else {"parameters": {"binary_data_size": len(binary)}}
    expected = detecting.score(images)

    reply = infer(
        detecting_client,
        tensor(shape, "BYTES" if is_bytes else "UINT8", **more),
        binary,
        parameters={"binary_data_output": output},
        id="a-7",
        model_name="whatever",
    )

    found = outputs_of(reply)
    assert list(found) == ["probabilities", "digit", "is_digit"]
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, rtol=1e-6)
    np.testing.assert_array_equal(found["digit"], expected.probabilities.argmax(axis=1))
    np.testing.assert_allclose(found["is_digit"], expected.is_digit, rtol=1e-6)
    assert (LENGTH in reply.headers) == output
    head = json.loads(reply.data[: int(reply.headers.get(LENGTH, len(reply.data)))])
    assert (head["model_name"], head["model_version"], head["id"]) == (
        *("digits", detecting.version),
        "a-7",
    )


def test_outputs_are_chosen_each_binary_or_not(detecting_client, images):
    given = tensor([3, 28, 28], data=images.tolist())
    asked = [
        {"name": "digit", "parameters": {"binary_data": True, "unknown": 1}},
        {"name": "is_digit", "parameters": {"binary_data": False}},
        {"name": "probabilities"},
    ]

    reply = infer(
        detecting_client, given, outputs=asked, parameters={"binary_data_output": True, "x": "y"}
    )

    n = int(reply.headers[LENGTH])
    is_binary = ["data" not in output for output in json.loads(reply.data[:n])["outputs"]]
    assert is_binary == [True, False, True]
    assert list(outputs_of(reply)) == ["digit", "is_digit", "probabilities"]
    assert "id" not in json.loads(reply.data[:n])
    absent = infer(detecting_client, given, outputs=None, parameters=None, id=None)
    assert len(outputs_of(absent)) == 3


def test_model_without_a_detector_and_of_other_classes_has_other_outputs(classifier, images):
    client = create_app(classifier).test_client()

    found = outputs_of(infer(client, tensor([3, 28, 28], data=images.tolist())))

    assert list(found) == ["probabilities", "digit"]
    asked = infer(client, tensor([3, 784], data=images.tolist()), outputs=[{"name": "is_digit"}])
    assert asked.status_code == 400
    assert "is_digit" in asked.json["error"]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_compressed_body_counts_the_uncompressed_json(client, images, encoding, compress):
    text = json.dumps(
        {"inputs": [tensor([3, 28, 28], parameters={"binary_data_size": images.size})]}
    ).encode()

    def post(body: bytes, **headers: str):
        headers = {"Content-Encoding": encoding, LENGTH: str(len(text)), **headers}
        return client.post(f"{ROOT}/infer", data=body, headers=headers)

    whole = compress(text + images.tobytes())
    assert len(outputs_of(post(whole))["digit"]) == 3
    for body, words in (
        (whole[:-5], "not one stream"),
        (whole + b"x", "not one stream"),
        (text, "not compressed by"),
        (b"", "not one stream"),
    ):
        reply = post(body)
        assert (reply.status_code, words in reply.json["error"]) == (400, True)
    assert post(whole, **{"Content-Encoding": "br"}).status_code == 415
    bomb = post(compress(bytes(2**27)))
    assert bomb.status_code == 413
    assert "16,777,216 bytes" in bomb.json["error"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (tensor([3, 27, 28], data=[]), "[3, 27, 28]"),
        (tensor([3, 28], data=[]), "[3, 28]"),
        (tensor([28, 28], data=[]), "[28, 28]"),
        (tensor([3, 1, 28, 28], data=[]), "[3, 1, 28, 28]"),
        (tensor([], data=[]), "[]"),
        (tensor([-1, 28, 28], data=[]), "[-1, 28, 28]"),
        (tensor([-3, -28, 28], data=[]), "[-3, -28, 28]"),
        (tensor([True, 28, 28], data=[0] * 784), "[true, 28, 28]"),
        (tensor([1.0, 28, 28], data=[0] * 784), "[1.0, 28, 28]"),
        (tensor(["1", 28, 28], data=[]), '["1", 28, 28]'),
        (tensor([[[1]], 28, 28], data=[]), "[[…], 28, 28]"),
        (tensor(3, data=[]), "'shape' is 3"),
        (tensor([0, 28, 28], data=[]), "no image"),
        (tensor([3, 28, 28], "FP32", data=[]), "FP32"),
        (tensor([3, 28, 28], "BYTES", data=[]), "BYTES"),
        (tensor([3, 28, 28], 8, data=[]), "'datatype' is 8"),
        (tensor([1, 28, 28], data=[0] * 783), "783 values"),
        (tensor([2, 28, 28], data=[0] * 784), "784 values"),
        (tensor([1, 784], data=[0] * 783 + [256]), "the value 256"),
        (tensor([1, 784], data=[0] * 783 + [-1]), "the value -1"),
        (tensor([1, 784], data=[0] * 783 + [0.5]), "the value 0.5"),
        (tensor([1, 784], data=[0] * 783 + [10**300]), "the value 1e+300"),
        (tensor([1, 784], data=["0"] * 784), "no array of numbers"),
        (tensor([1, 784], data=[[0] * 783, [0]]), "no array of numbers"),
        (tensor([1, 784], data=None), "'data' is absent"),
        (tensor([1, 784]), "'data' is absent"),
        (tensor([1, 784], data=[], parameters={"binary_data_size": 784}), "'data' is present"),
        (tensor([1, 784], parameters={"binary_data_size": 784}), "0 bytes follow"),
        (tensor([1, 784], parameters={"binary_data_size": -1}), "is -1"),
        (tensor([1, 784], parameters={"binary_data_size": "9"}), '"9"'),
        (tensor([1, 784], parameters={"shared_memory_region": "r"}), "shared memory"),
        (tensor([1, 784], parameters=[]), "'parameters' is []"),
        (tensor([1], "BYTES", data="AAAA"), "strings of base64"),
        (tensor([2], "BYTES", data=["AAAA"]), "2 strings"),
        (tensor([1], "BYTES", data=["a*b"]), '"a*b"'),
        (tensor([1], "BYTES", data=[7]), "a picture is 7"),
        ({**tensor([1, 784], data=[0] * 784), "name": "input"}, '"input"'),
        ([tensor([1, 784], data=[0] * 784)] * 2, "2 inputs"),
        ([], "0 inputs"),
        ([7], "null"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_wrong_input_is_refused_with_its_value(client, given, words):
    reply = infer(client, given)

    assert reply.status_code == 400
    assert reply.mimetype == "application/problem+json"
    assert reply.json["error"] == reply.json["detail"]
    assert words in reply.json["error"]
    assert len(reply.data) < 1_000


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"outputs": [{"name": "logits"}]}, '"logits"'),
        ({"outputs": [{"name": ["digit"]}]}, '["digit"]'),
        ({"outputs": [{"name": "digit"}] * 2}, "repeated"),
        ({"outputs": ["digit"]}, "output null"),
        ({"outputs": "digit"}, "'outputs'"),
        ({"outputs": [{"name": "digit", "parameters": {"classification": 3}}]}, "classification"),
        ({"outputs": [{"name": "digit", "parameters": {"shared_memory_region": "r"}}]}, "shared"),
        ({"parameters": 1}, "'parameters' is 1"),
        ({"id": 7}, "'id' is 7"),
    ],
)
def test_wrong_member_is_refused_with_its_value(client, images, more, words):
    reply = infer(client, tensor([3, 784], data=images.tolist()), **more)

    assert reply.status_code == 400
    assert words in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "malformed JSON"),
        (b"{}", "'inputs' is null"),
        (b"[]", "the JSON is []"),
        (b'{"inputs": {}}', "'inputs' is {"),
        (b'{"inputs": [], "inputs": []}', "twice"),
        (b'{"inputs": [%s' % (b"[" * 100_000), "too deeply"),
        (b'{"inputs": [{"name": "image", "shape": [%s]}]}' % (b"9" * 5_000), "too many digits"),
        (b"\x00" * 100, "malformed JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_body_that_is_no_request_is_refused(client, body, words):
    reply = client.post(f"{ROOT}/infer", data=body)

    assert reply.status_code == 400
    assert words in reply.json["error"]


@pytest.mark.parametrize("length", ["", "-1", "+5", "1e2", "0x10", "999", "9" * 5_000, "²", "5 "])
def test_length_of_the_json_is_within_the_body(client, images, length):
    given = tensor([1, 784], parameters={"binary_data_size": 784})
    reply = infer(client, given, images[0].tobytes(), headers={LENGTH: length})

    assert reply.status_code == 400
    assert "error" in reply.json


@pytest.mark.parametrize("shift", [-1, 1])
def test_length_of_the_json_that_is_off_by_one_is_refused(client, images, shift):
    given = tensor([1, 784], parameters={"binary_data_size": 784 - shift})
    text = json.dumps({"inputs": [given]})
    headers = {LENGTH: str(len(text) + shift)}

    assert infer(client, given, images[0].tobytes(), headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("binary", "words"),
    [
        (b"\xff\xff\xff\xff" + b"x" * 10, "element 0 of BYTES ends"),
        (bytes_of(b"x") + b"\x05\0\0\0x", "element 1 of BYTES ends 4 bytes after"),
        (bytes_of(b"x") + b"\x01\0", "element 1 of BYTES ends"),
        (bytes_of(b"x"), "element 1 of BYTES ends"),
        (bytes_of(b"x", b"y", b"z"), "5 bytes follow"),
        (b"", "element 0 of BYTES ends"),
    ],
)
def test_lying_lengths_of_elements_are_refused(client, binary, words):
    given = tensor([2], "BYTES", parameters={"binary_data_size": len(binary)})

    reply = infer(client, given, binary)

    assert reply.status_code == 400
    assert words in reply.json["error"]


def test_shapes_larger_than_the_limits_are_refused_unread(client):
    for shape, kind in (
        ([10_001, 784], "UINT8"),
        ([2**62, 28, 28], "UINT8"),
        ([2**64, 784], "UINT8"),
        ([10**300], "BYTES"),
        ([1_001], "BYTES"),
    ):
        reply = infer(client, tensor(shape, kind, data=[]))
        assert reply.status_code == 413
        assert "send at most" in reply.json["error"]
        assert len(reply.data) < 1_000
    many = infer(client, tensor([1_300, 784], data=[0] * (1_300 * 784)))
    assert many.status_code == 413
    assert "values" in many.json["error"]


def test_picture_that_cannot_be_read_fails_the_request_by_its_number(client, images):
    good = encode(images[0])
    for bad, status in (
        (b"", 415),
        (b"text", 415),
        (good[:60], 422),
        (encode(np.zeros_like(images[0])), 422),
    ):
        binary = bytes_of(good, bad)
        size = {"binary_data_size": len(binary)}
        reply = infer(client, tensor([2], "BYTES", parameters=size), binary)
        assert (reply.status_code, reply.json["error"][:9]) == (status, "image 1: "), bad
    blank = np.stack([images[0], np.zeros_like(images[0])])
    reply = infer(client, tensor([2, 28, 28], data=blank.tolist()))
    assert (reply.status_code, reply.json["error"][:9]) == (422, "image 1: ")


def test_image_that_is_no_digit_is_answered_and_counted(detecting, drawn):
    app = create_app(detecting)
    images = drawn.test.images[:20]

    found = outputs_of(infer(app.test_client(), tensor([20, 28, 28], data=images.tolist())))

    totals = app.extensions["digits"].metrics.totals()
    n_refused = int((found["is_digit"] < detecting.detector.threshold).sum())
    assert 0 < n_refused < 20
    assert totals["digits_nondigits",] == n_refused
    assert sum(totals["digits_predictions", str(k)] for k in range(10)) == 20 - n_refused


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
def test_other_versions_and_models_are_not_found(client, path):
    method = "POST" if path == "/infer" else "GET"
    for root in (f"{ROOT}/versions/1", f"{ROOT}/versions/{'9' * 300}", "/v2/models/mnist"):
        reply = client.open(f"{root}{path}", method=method)
        assert reply.status_code == 404
        assert reply.json["error"] == reply.json["detail"]
        assert len(reply.data) < 1_500
    assert client.put(f"{ROOT}{path}").json["error"]


def test_requests_for_a_version_are_counted_as_those_for_the_model(client, classifier):
    for path in ("", "/ready", "/infer"):
        environ: dict = {}
        client.open(f"{ROOT}/versions/{classifier.version}{path}", environ_overrides=environ)
        with client.application.test_request_context(f"{ROOT}/versions/x{path}") as context:
            client.application.preprocess_request()
            assert context.request.environ.get(ROUTE, f"{ROOT}{path}") == f"{ROOT}{path}"


def test_keys_are_required_as_on_predict(classifier, images):
    client = create_app(classifier, read_settings({"DIGITS_API_KEYS": "0" * 64})).test_client()
    version = f"{ROOT}/versions/{classifier.version}"

    for path in (ROOT, version):
        assert client.get(path).status_code == 401
        assert client.post(f"{path}/infer").json["error"].startswith("missing or unknown API key")
        assert client.get(f"{path}/ready").status_code == 200
    for path in ("/v2", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
