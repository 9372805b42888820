import io
import json

import numpy as np
import pytest
from PIL import Image

from service.app import MAX_BYTES, create_app
from service.classifier import Classifier
from tests.conftest import encode


@pytest.fixture(scope="module")
def image(drawn) -> np.ndarray:
    return drawn.test.images[0]


def post(client, upload: bytes, field: str = "image"):
    return client.post("/predict", data={field: (io.BytesIO(upload), "digit.png")})


def test_reply_holds_the_digit_and_the_softmax_probabilities(client, classifier, image):
    reply = post(client, encode(image))

    expected = classifier.predict_proba(image[None])[0]
    assert reply.status_code == 200
    assert reply.mimetype == "application/json"
    assert list(reply.json) == ["digit", "probability", "probabilities", "model"]
    np.testing.assert_allclose(reply.json["probabilities"], expected, rtol=1e-6)
    assert sum(reply.json["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert reply.json["digit"] == expected.argmax()
    assert reply.json["probability"] == max(reply.json["probabilities"])
    assert reply.json["model"] == classifier.version


def test_form_field_may_be_file_and_the_body_the_picture_itself(client, image):
    upload = encode(image)

    replies = [
        post(client, upload),
        post(client, upload, field="file"),
        client.post("/predict", data=upload, content_type="image/png"),
        client.post("/predict", data=upload, content_type="image/x-anything"),
    ]

    assert [reply.status_code for reply in replies] == [200] * 4
    assert len({reply.text for reply in replies}) == 1


def test_model_of_other_classes_names_them(drawn):
    weight = np.random.default_rng(0).normal(size=(784, 2)).astype(np.float32)
    binary = Classifier(weight, np.zeros(2, np.float32), (3, 8), "pixels")

    reply = post(create_app(binary).test_client(), encode(drawn.test.images[0]))

    assert reply.json["classes"] == [3, 8]
    assert reply.json["digit"] in (3, 8)
    assert len(reply.json["probabilities"]) == 2


def test_model_route_tells_what_is_served(client, classifier):
    reply = client.get("/model").json

    assert reply["model"] == classifier.version
    assert reply["features"] == "stroke-edges"
    assert reply["classes"] == list(range(10))
    assert reply["training"]["data"] == "synthetic"
    assert reply["evaluation"] == classifier.evaluation


def test_probes_answer(client, classifier):
    assert client.get("/livez").json == {"status": "alive"}
    assert client.get("/readyz").json == {
        "status": "ready",
        "model": classifier.version,
    }


FORM = "multipart/form-data; boundary=b"
NAMELESS = (
    b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n"
    b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n--b--\r\n'
)
TOO_LARGE = b"\x89PNG" + bytes(MAX_BYTES)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"data": {}}, 400, ["no picture", "curl -F image=@digit.png"]),
        ({"data": b"", "content_type": "image/png"}, 400, ["no picture"]),
        ({"data": {"photo": "x"}}, 415, ["x-www-form-urlencoded", "image/*"]),
        ({"data": {"photo": (b"x", "x.png")}}, 400, ["0 files", "'photo'"]),
        ({"data": {"image": (b"", "x.png")}}, 400, ["no picture"]),
        ({"data": NAMELESS, "content_type": FORM}, 400, ["0 files", "None", "note"]),
        ({"data": {"image": (b"x", "a"), "file": (b"x", "b")}}, 400, ["2 files"]),
        (
            {"data": {**{f"f{i}": "x" for i in range(11)}, "image": (b"x", "x")}},
            413,
            ["parts"],
        ),
        ({"data": b"--x", "content_type": "multipart/form-data"}, 400, ["0 files"]),
        (
            {"data": b"{}", "content_type": "application/json"},
            415,
            ["application/json"],
        ),
        ({"data": b"x", "content_type": "image/png"}, 415, ["b'x'", "PNG"]),
        (
            {"data": encode(Image.new("L", (9, 9))), "content_type": "image/png"},
            422,
            ["blank"],
        ),
        ({"data": TOO_LARGE, "content_type": "image/png"}, 413, [f"{MAX_BYTES:,}"]),
    ],
)
def test_bad_request_is_a_problem_that_names_the_value(client, request_, status, words):
    data = request_["data"]
    if isinstance(data, dict):
        data = {
            name: (io.BytesIO(value[0]), value[1])
            if isinstance(value, tuple)
            else value
            for name, value in data.items()
        }

    reply = client.post("/predict", **{**request_, "data": data})

    assert reply.status_code == status
    assert reply.mimetype == "application/problem+json"
    problem = json.loads(reply.data)
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"]


def test_weights_setting_names_the_first_file_that_exists(
    weights, tmp_path, monkeypatch, classifier
):
    monkeypatch.setenv("DIGITS_WEIGHTS", f"{tmp_path}/absent:{weights}")

    app = create_app()

    assert app.test_client().get("/model").json["model"] == classifier.version


def test_without_a_setting_the_shipped_weights_are_served(monkeypatch):
    monkeypatch.delenv("DIGITS_WEIGHTS", raising=False)

    reply = create_app().test_client().get("/model").json

    assert reply["training"]["data"] == "MNIST"


@pytest.mark.parametrize("setting", ["/absent", "/absent:/gone", "/dev/null"])
def test_bad_weights_stop_the_start_with_a_sentence(setting, monkeypatch):
    monkeypatch.setenv("DIGITS_WEIGHTS", setting)

    with pytest.raises(SystemExit) as stop:
        create_app()

    assert str(stop.value).startswith(f"digits: weights {setting.split(':')[-1]}: ")
