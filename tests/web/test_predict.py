"""POST /predict: every kind of request, and its reply."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.classifier import Classifier
from service.images import read_image
from service.settings import DEFAULT_LIMITS, read_settings
from service.web.bulk import NPY
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


def test_picture_may_be_in_the_field_file_or_be_the_body(client, image):
    upload = encode(image)

    replies = [
        post(client, upload),
        post(client, upload, field="file"),
        client.post("/predict", data=upload, content_type="image/png"),
        client.post("/predict", data=upload, content_type="image/x-anything"),
    ]

    assert [reply.status_code for reply in replies] == [200] * 4
    assert len({reply.text for reply in replies}) == 1


def test_reply_of_a_model_of_some_digits_lists_its_classes(drawn):
    weight = np.random.default_rng(0).normal(size=(784, 2)).astype(np.float32)
    binary = Classifier(weight, np.zeros(2, np.float32), (3, 8), "pixels")

    reply = post(create_app(binary).test_client(), encode(drawn.test.images[0]))

    assert reply.json["classes"] == [3, 8]
    assert reply.json["digit"] in (3, 8)
    assert len(reply.json["probabilities"]) == 2


def test_several_pictures_get_predictions_or_errors_in_their_order(client, drawn, classifier):
    uploads = [encode(image) for image in drawn.test.images[:3]]
    uploads[1:1] = [b"no picture", encode(Image.new("L", (30, 30)))]
    files = [(io.BytesIO(upload), f"{i}.png") for i, upload in enumerate(uploads)]

    reply = client.post("/predict", data={"image": files})

    good, bad = [0, 3, 4], [1, 2]
    expected = classifier.predict_proba(drawn.test.images[:3])
    assert reply.status_code == 200
    assert list(reply.json) == ["predictions", "model"]
    slots = reply.json["predictions"]
    for i, probabilities in zip(good, expected, strict=True):
        assert list(slots[i]) == ["digit", "probability", "probabilities", "filename"]
        np.testing.assert_allclose(slots[i]["probabilities"], probabilities, rtol=1e-6)
    assert [slots[i]["error"]["status"] for i in bad] == [415, 422]
    assert [slot["filename"] for slot in slots] == [f"{i}.png" for i in range(5)]
    assert "not a picture" in slots[1]["error"]["detail"]
    assert "blank" in slots[2]["error"]["detail"]


def test_pictures_of_one_form_share_the_pixel_limit(client):
    n = 100
    each = DEFAULT_LIMITS.max_pixels_together // n
    upload = encode(Image.new("1", (each // 1_000 + 1, 1_000)))
    files = [(io.BytesIO(upload), "x.png") for _ in range(n)]

    reply = client.post("/predict", data={"image": files})

    details = {slot["error"]["detail"] for slot in reply.json["predictions"]}
    assert len(details) == 1
    assert f"at most {each:,}" in details.pop()


def test_file_of_line_breaks_in_an_unusual_form_is_read_whole(client):
    kind = 'multipart/form-data; boundary="b"'
    head = b'Content-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    body = b"--b\r\n" + head + b"\r\n" * 200_000 + b"\r\n--b--\r\n"

    reply = client.post("/predict", data=body, content_type=kind)

    assert reply.status_code == 415
    assert "400000 bytes" in reply.json["detail"]


def test_explain_is_refused_unless_for_one_picture_and_a_json_reply(client, drawn):
    images = drawn.test.images[:2]
    files = [(io.BytesIO(encode(image)), "x.png") for image in images]
    one = {"data": encode(images[0]), "content_type": "image/png"}

    for request in (
        {"data": {"image": files}},
        {"data": images.tobytes(), "content_type": BYTES},
        {**one, "headers": {"Accept": NPY}},
    ):
        reply = client.post("/predict?explain=1", **request)
        assert reply.status_code == 400
        assert "one picture" in reply.json["detail"]
    assert client.post("/predict?explain=yes", **one).status_code == 400


def test_error_message_is_short_however_long_the_field_names_are(client):
    part = '--b\r\nContent-Disposition: form-data; name="{}\1{}"\r\n\r\n\r\n'
    body = "".join(part.format(i, "x" * 1_900) for i in range(10)) + "--b--\r\n"

    reply = client.post("/predict", data=body.encode(), content_type=FORM)

    assert reply.status_code == 400
    assert len(reply.data) < 2_000
    assert re.search(r"and \d+ more", reply.json["detail"])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/x-npy"])
def test_bulk_images_get_the_predictions_of_single_pictures(client, drawn, classifier, kind):
    images = drawn.test.images
    body = npy(images) if "npy" in kind else images.tobytes()

    as_json = client.post("/predict", data=body, content_type=kind)
    as_npy = client.post("/predict", data=body, content_type=kind, headers={"Accept": NPY})

    expected = classifier.predict_proba(np.stack([read_image(encode(each)) for each in images]))
    slots = as_json.json["predictions"]
    assert [slot["digit"] for slot in slots] == expected.argmax(axis=1).tolist()
    one = post(client, encode(images[7])).json
    assert slots[7] == {name: one[name] for name in slots[7]}
    assert as_npy.mimetype == NPY
    array = np.load(io.BytesIO(as_npy.data))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected.astype(np.float32))


def test_accept_header_selects_npy_replies_for_pictures_too(client, drawn, classifier):
    uploads = [encode(drawn.test.images[0]), b"no picture"]
    expected = classifier.predict_proba(drawn.test.images[:1]).astype(np.float32)

    for accept, kind in (
        (NPY, NPY),
        (f"{NPY}, application/json;q=0.5", NPY),
        (f"{NPY};q=0.5, application/json", "application/json"),
        (f"{NPY};q=0", "application/json"),
        (NPY.upper(), NPY),
        ("application/*", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ):
        files = [(io.BytesIO(upload), "x.png") for upload in uploads]
        one = client.post("/predict", data={"image": files[:1]}, headers={"Accept": accept})
        files = [(io.BytesIO(upload), "x.png") for upload in uploads]
        two = client.post("/predict", data={"image": files}, headers={"Accept": accept})
        assert (one.mimetype, two.mimetype) == (kind, kind)
        if kind == NPY:
            np.testing.assert_array_equal(np.load(io.BytesIO(one.data)), expected)
            rows = np.load(io.BytesIO(two.data))
            np.testing.assert_array_equal(rows[:1], expected)
            assert np.isnan(rows[1]).all()


def test_server_timing_lists_each_step_on_request(client, image):
    def steps(query: str, n: int = 1) -> list[str]:
        files = [(io.BytesIO(encode(image)), "x.png") for _ in range(n)]
        reply = client.post(f"/predict{query}", data={"image": files})
        times = reply.headers.get("Server-Timing", "")
        for time in filter(None, times.split(", ")):
            assert re.fullmatch(r"[a-z]+;dur=\d+\.\d{3}", time)
        return [time.partition(";")[0] for time in times.split(", ")]

    assert steps("?timing=1") == ["wait", "read", "score"]
    assert steps("?timing=1", n=3) == ["wait", "read", "score"]
    assert steps("?timing=1&explain=1") == ["wait", "read", "explain", "score"]
    assert steps("?timing=0") == [""]
    assert steps("") == [""]


def test_server_timing_covers_refused_pictures(client):
    reply = client.post("/predict?timing=1", data=b"x", content_type="image/png")

    assert reply.status_code == 415
    assert "read;dur=" in reply.headers["Server-Timing"]


def test_model_route_describes_the_current_model(client, classifier):
    reply = client.get("/model").json

    assert reply["model"] == classifier.version
    assert reply["features"] == "stroke-waves"
    assert reply["classes"] == list(range(10))
    assert reply["training"]["data"] == "synthetic"
    assert reply["evaluation"] == classifier.evaluation


@pytest.mark.parametrize("path", ["/livez", "/model", "/absent", "/predict"])
def test_every_reply_forbids_framing_and_content_sniffing(client, image, path):
    for reply in (client.get(path), post(client, encode(image))):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


def test_probes_answer(client, classifier):
    assert client.get("/livez").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready", "model": classifier.version}


FORM = "multipart/form-data; boundary=b"
NAMELESS = (
    b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n"
    b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n--b--\r\n'
)
BYTES = "application/octet-stream"
NO_IMAGES = np.zeros((0, 28, 28), np.uint8)
TOO_MANY = bytes((DEFAULT_LIMITS.max_images + 1) * 784)
TOO_LARGE = b"\x89PNG" + bytes(DEFAULT_LIMITS.max_bytes)


def opened(value):
    """Turn pairs of content and file name into files."""
    if isinstance(value, list):
        return [opened(each) for each in value]
    return (io.BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"data": {}}, 400, ["no picture", "curl -F image=@digit.png"]),
        ({"data": b"", "content_type": "image/png"}, 400, ["no picture"]),
        ({"data": {"photo": "x"}}, 415, ["x-www-form-urlencoded", "image/*"]),
        ({"data": {"photo": (b"x", "x.png")}}, 400, ["no file", "'photo'"]),
        ({"data": {"image": (b"", "x.png")}}, 400, ["no picture"]),
        ({"data": NAMELESS, "content_type": FORM}, 400, ["no file", "None", "note"]),
        (
            {
                "data": {
                    f"f{i}": "x"
                    for i in range(DEFAULT_LIMITS.max_fields + DEFAULT_LIMITS.max_pictures)
                }
                | {"image": (b"x", "x")}
            },
            413,
            ["parts"],
        ),
        (
            {"data": {f"f{i}": "x" for i in range(11)} | {"image": (b"x", "x")}},
            413,
            ["11 fields", "at most 10"],
        ),
        (
            {"data": {f"f{i}": "x" * 140_000 for i in range(2)} | {"image": (b"x", "x")}},
            413,
            ["280,000 bytes", "262,144"],
        ),
        ({"data": b"--x", "content_type": "multipart/form-data"}, 400, ["boundary"]),
        ({"data": {"image": (b"x", "a"), "file": (b"x", "b")}}, 400, ["order"]),
        ({"data": b"{}", "content_type": "application/json"}, 400, ["members", '"instances"']),
        ({"data": b"x", "content_type": "image/png"}, 415, ["b'x'", "PNG"]),
        ({"data": encode(Image.new("L", (9, 9))), "content_type": "image/png"}, 422, ["blank"]),
        ({"data": TOO_LARGE, "content_type": "image/png"}, 413, [f"{DEFAULT_LIMITS.max_bytes:,}"]),
        ({"data": b"x" * 785, "content_type": BYTES}, 400, ["785 bytes", "784"]),
        ({"data": b"", "content_type": BYTES}, 400, ["no image"]),
        ({"data": npy(np.zeros((2, 9, 9))), "content_type": NPY}, 400, ["float64"]),
        ({"data": npy(NO_IMAGES), "content_type": NPY}, 400, ["no image"]),
        ({"data": TOO_MANY, "content_type": BYTES}, 413, ["10,001", "10,000"]),
        (
            {"data": {"image": [(b"x", "x")] * (DEFAULT_LIMITS.max_pictures + 1)}},
            413,
            [f"{DEFAULT_LIMITS.max_pictures:,}"],
        ),
    ],
)
def test_invalid_request_is_a_problem_that_shows_the_value(client, request_, status, words):
    data = request_["data"]
    if isinstance(data, dict):
        data = {name: opened(value) for name, value in data.items()}

    reply = client.post("/predict", **{**request_, "data": data})

    assert reply.status_code == status
    assert reply.mimetype == "application/problem+json"
    problem = json.loads(reply.data)
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"]


def test_first_existing_file_of_the_weights_setting_is_served(weights, tmp_path, classifier):
    settings = read_settings({"DIGITS_WEIGHTS": f"{tmp_path}/absent:{weights}"})

    app = create_app(settings=settings)

    assert app.test_client().get("/model").json["model"] == classifier.version


def test_shipped_weights_are_the_default(monkeypatch):
    monkeypatch.delenv("DIGITS_WEIGHTS", raising=False)

    reply = create_app().test_client().get("/model").json

    assert reply["training"]["data"] == "MNIST"


@pytest.mark.parametrize("setting", ["/absent", "/absent:/gone", "/dev/null"])
def test_invalid_weights_abort_startup_with_a_one_line_message(setting, monkeypatch):
    monkeypatch.setenv("DIGITS_WEIGHTS", setting)

    with pytest.raises(SystemExit) as stop:
        create_app()

    assert str(stop.value).startswith(f"digits: weights {setting.split(':')[-1]}: ")
