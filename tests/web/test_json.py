"""Requests whose body is JSON."""

import base64
import io
import json
import resource

import numpy as np
import pytest
from PIL import Image, ImageDraw

from service.app import create_app
from service.settings import read_settings
from service.web.json_body import MAX_MEMBERS, MAX_VALUES
from tests.conftest import encode

STEP = 2**20


@pytest.fixture(scope="module")
def image(drawn) -> np.ndarray:
    return drawn.test.images[0]


@pytest.fixture(scope="module")
def png(image) -> bytes:
    return encode(image)


@pytest.fixture(scope="module")
def number() -> bytes:
    """A picture of the number 17."""
    picture = Image.new("L", (160, 100), "white")
    pen = ImageDraw.Draw(picture)
    pen.line([(38, 20), (30, 80)], "black", 6)
    pen.line([(90, 20), (130, 20), (105, 80)], "black", 6)
    return encode(picture)


def b64(upload: bytes) -> str:
    return base64.b64encode(upload).decode()


def posted(client, body, query: str = "", status: int = 200, kind: str = "application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = client.post(f"/predict{query}", data=data, content_type=kind)
    assert reply.status_code == status, reply.text
    return reply.json


@pytest.mark.parametrize(
    "write",
    [
        b64,
        lambda upload: base64.encodebytes(upload).decode(),  # with line breaks
        lambda upload: base64.urlsafe_b64encode(upload).decode(),
        lambda upload: b64(upload).rstrip("="),
        lambda upload: f"data:image/png;base64,{b64(upload)}",
        lambda upload: f"DATA:image/jpeg;name=x;BASE64,{b64(upload)}",  # content decides
        lambda upload: f"data:;base64,{b64(upload)}".replace("+", "%2B").replace("=", "%3D"),
    ],
)
def test_picture_in_base64_or_a_data_url_gets_the_answer_of_its_bytes(client, png, write):
    expected = client.post("/predict", data=png, content_type="image/png").json

    assert posted(client, {"image": write(png)}) == expected


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"]
)
def test_json_object_is_known_by_its_content_as_curl_d_sends_it(client, png, kind):
    assert "digit" in posted(client, {"image": b64(png)}, kind=kind)
    assert "digit" in posted(client, b"\n {" + json.dumps({"image": b64(png)})[1:].encode())


def test_list_of_pictures_gets_a_list_even_of_one(client, png):
    alone = posted(client, {"image": b64(png)})
    del alone["model"]

    assert posted(client, {"images": [b64(png)]})["predictions"] == [alone]
    slots = posted(client, {"images": [b64(png), "a*b", b64(b"text"), b64(png), "", None, {}]})
    slots = slots["predictions"]
    assert slots[0] == slots[3] == alone
    assert [slot["error"]["status"] for slot in slots if "error" in slot] == [
        400,
        415,
        415,
        400,
        400,
    ]
    assert '"a*b"' in slots[1]["error"]["detail"]


@pytest.mark.parametrize("is_named", [False, True])
def test_instances_in_base64_get_the_answers_of_pictures(client, png, is_named):
    expected = posted(client, {"images": [b64(png), b64(b"text")]})
    instances = [{"b64": b64(png)}, {"b64": b64(b"text")}]
    body = {"instances": [{"image_bytes": each} for each in instances] if is_named else instances}

    assert posted(client, body) == expected
    assert posted(client, body | {"signature_name": "serving_default"}) == expected


def test_digits_in_a_row_in_a_string_are_no_integer(client):
    picture = Image.new("RGB", (28, 28), (0x34, 0x4D, 0xD3))  # "0000…" in base64
    ImageDraw.Draw(picture).line([(14, 4), (14, 24)], "white", 3)
    upload = encode(picture, "BMP")

    assert "0" * 400 in b64(upload)
    assert posted(client, {"image": b64(upload)})["digit"] == 1


def test_explanation_and_number_work_with_pictures_in_json(client, png, number):
    explained = posted(client, {"image": b64(png)}, "?explain=1")
    assert explained == client.post("/predict?explain=1", data=png, content_type="image/png").json
    (slot,) = posted(client, {"images": [b64(png)]}, "?explain=1")["predictions"]
    assert slot["explanation"] == explained["explanation"]
    posted(client, {"images": [b64(png)] * 2}, "?explain=1", status=400)

    read = posted(client, {"image": b64(number)}, "?several=1")
    assert read == client.post("/predict?several=1", data=number, content_type="image/png").json
    slots = posted(client, {"images": [b64(number), b64(b"x")]}, "?several=1")["predictions"]
    assert slots[0]["number"] == read["number"]
    assert slots[1]["error"]["status"] == 415
    (slot,) = posted(client, {"images": [b64(number)]}, "?several=1&explain=1")["predictions"]
    assert all("explanation" in digit for digit in slot["digits"])


def test_instances_get_the_answers_of_the_same_array_in_bulk(client, drawn):
    images = drawn.test.images[:5]
    bulk = client.post(
        "/predict", data=images.tobytes(), content_type="application/octet-stream"
    ).json
    layouts = [
        images,
        images.reshape(5, 784),
        images[..., np.newaxis],  # Keras
        images[:, np.newaxis],  # torch
        images.astype(float),
        images / 255,
        (images / 255).astype(np.float32),
    ]

    for layout in layouts:
        assert posted(client, {"instances": layout.tolist()}) == bulk
    more = {"instances": images.tolist(), "signature_name": "serving_default"}
    assert posted(client, more) == bulk


def test_binarised_instances_are_levels_from_0_to_1(client, image):
    binary = (image > 127).astype(int)
    expected = posted(client, {"instances": [(255 * binary).tolist()]})

    assert posted(client, {"instances": [binary.tolist()]}) == expected


def test_blank_instance_has_an_error_in_its_slot(client, image):
    slots = posted(client, {"instances": [image.tolist(), np.zeros((28, 28), int).tolist()]})

    assert "digit" in slots["predictions"][0]
    assert slots["predictions"][1]["error"]["status"] == 422


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x - 128.0, ["from -128 to"]),
        (lambda x: 2 * (x / 255) - 1, ["from -1 to 1"]),
        (lambda x: (x / 255 - 0.1307) / 0.3081, ["unclear"]),  # torchvision's normalisation
        (lambda x: x / 255 / 255, ["to 0.00392157"]),
        (lambda x: x * 257.0, ["to 65535"]),
        (lambda x: x / 100, ["to 2.55"]),
        (lambda x: np.stack([x, x / 255])[:, :28], ["instance 1 has levels up to 1"]),
        (lambda x: x[:27], ["the shape [1, 27, 28]", "28 x 28"]),
        (lambda x: x.ravel()[:783], ["the shape [1, 783]"]),
        (lambda x: x[np.newaxis, np.newaxis].repeat(3, 1), ["[1, 1, 3, 28, …]"]),
        (lambda x: 255.0 - x, ["inverted"]),
    ],
)
def test_instances_of_unclear_levels_or_shape_are_refused(client, image, change, words):
    changed = change(image)
    instances = changed if changed.ndim == 3 and len(changed) == 2 else changed[np.newaxis]

    detail = posted(client, {"instances": instances.tolist()}, status=400)["detail"]

    for word in words:
        assert word in detail


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, ["malformed JSON", "line 1 column 2"]),
        (b'{"image": "\xff"}', 400, ["UTF-8"]),
        (b"[1]", 400, ["the JSON is [1]"]),
        (b"null", 400, ["the JSON is null"]),
        (b"{}", 400, ["members []"]),
        (b'{"picture": "x"}', 400, ["members ['picture']", '"image"']),
        (b'{"image": "", "images": []}', 400, ["members ['image', 'images']"]),
        (b'{"image": "x", "several": 1}', 400, ["'several'", "query parameters"]),
        (b'{"image": "AAAA", "image": "BBBB"}', 400, ["'image' twice"]),
        (b'{%s, "0": 1}' % b",".join(b'"%d": 1' % i for i in range(19_000)), 400, ["'0' twice"]),
        (b"{%s}" % b",".join(b'"%d": 1' % i for i in range(20_001)), 413, ["20,000 members"]),
        (b'{"image": 7}', 400, ["a picture is 7"]),
        (b'{"image": ["x"]}', 400, ['a picture is ["x"]']),
        (b'{"image": "data:image/png,abc"}', 400, ["not of base64"]),
        (b'{"image": "https://example.org/7.png"}', 400, ["not base64", "downloads nothing"]),
        (b'{"image": "\\ud800"}', 400, ["not base64"]),
        (b'{"image": "A"}', 400, ["not base64"]),
        (b'{"image": "AA=A"}', 400, ["not base64"]),
        (b'{"image": ""}', 400, ["no picture"]),
        (b'{"images": []}', 400, ["no picture"]),
        (b'{"images": "AAAA"}', 400, ["not an array"]),
        (b'{"instances": []}', 400, ["shape [0]"]),
        (b'{"instances": 7}', 400, ["shape [1]"]),
        (b'{"instances": null}', 400, ["no array of numbers"]),
        (b'{"instances": [[1, [2]]]}', 400, ["no array of numbers"]),
        (b'{"instances": [[1, 2], [3]]}', 400, ["no array of numbers"]),
        (b'{"instances": [["1"]]}', 400, ["no array of numbers"]),
        (b'{"instances": [{"b64": ""}]}', 400, ["no picture"]),
        (b'{"instances": [{"base64": "AAAA"}]}', 400, ['has ["base64"]', '"b64"', "28 x 28"]),
        (b'{"instances": [{"b64": "AAAA", "key": 1}]}', 400, ['has ["b64", "key"]']),
        (b'{"instances": [{"image": [[1]]}]}', 400, ['has ["image"]']),
        (b'{"instances": [{"b64": "AAAA"}, [1]]}', 400, ["has [1]"]),
        (b'{"instances": [%s{}]}' % (b'{"b64": "AAAA"},' * 9), 400, ["has []"]),
        (b'{"instances": [%s]}' % b",".join([b'{"b64": ""}'] * 1_001), 413, ["1,001 pictures"]),
        (b'{"inputs": {"b64": "AAAA"}}', 400, ["members ['inputs']", '"instances"', '"b64"']),
        (b'{"instances": [NaN]}', 400, ["the number NaN"]),
        (b'{"instances": [-Infinity]}', 400, ["the number -Infinity"]),
        (b'{"instances": [1e999]}', 400, ["no array of numbers"]),
        (b'{"instances": [%s]}' % (b"9" * 100), 400, ["shape [1]"]),
        (b'{"instances": [-%s]}' % (b"9" * 311), 400, ["too many digits, over 310"]),
        (b'{"instances": [%s]}' % (b"9" * 4_299), 400, ["too many digits, over 310"]),
        (b'{"instances": [%s]}' % (b"9" * 5_000), 400, ["too many digits, over 310"]),
        (b'{"a":' + b"[" * 400_000, 400, ["too deeply"]),
        (b'{"a":' * 15_000, 400, ["too deeply"]),
        (b'{"instances": %s%s}' % (b"[" * 500, b"]" * 500), 400, ["shape [1, 1, 1"]),
        (b'{"a": [%s0]}' % (b"0," * MAX_VALUES), 413, ["1,000,000 values"]),
        (b'{"images": [%s""]}' % (b'"",' * 1_000), 413, ["1,001 pictures", "1,000"]),
        (b'{"image": "%s"}' % (b"A" * 2**24), 413, ["16,777,216 bytes"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_json_is_refused_with_the_value(client, body, status, words):
    detail = posted(client, body, status=status)["detail"]

    for word in words:
        assert word in detail
    assert len(detail) < 500


def test_json_of_most_values_takes_a_bounded_amount_of_memory(classifier):
    client = create_app(classifier).test_client()
    half = MAX_VALUES // 2 - 10
    bodies = [
        b'{"a": [%s0]}' % (b"0.123," * (MAX_VALUES - 10)),
        b'{"a": [%s0]}' % (b"[]," * half),
        b'{"a": [%s0]}' % (b"{}," * half),
        b"{%s}" % b",".join(b'"%x": 1' % i for i in range(MAX_MEMBERS)),
        b'{"image": "%s"}' % ("é" * (2**23 - 100)).encode(),
        b'{"image": "%s*"}' % (b"AA " * (2**24 // 3 - 100)),
        b'{"image": "data:;base64,%s*"}' % (b"%41" * (2**24 // 3 - 100)),
        b'{"image": "data:;base64,%s*"}' % (b"%2b" * (2**24 // 3 - 100)),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for body in bodies:
        posted(client, body, status=400)

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown / 1024 < 300  # MiB, as docs/operations.md reserves for a worker


def test_limits_of_pictures_and_images_hold_for_json(classifier, png, image):
    settings = read_settings({"DIGITS_MAX_PICTURES": "2", "DIGITS_MAX_IMAGES": "3"})
    client = create_app(classifier, settings).test_client()

    posted(client, {"images": [b64(png)] * 2})
    assert "at most 2" in posted(client, {"images": [b64(png)] * 3}, status=413)["detail"]
    posted(client, {"instances": [image.tolist()] * 3})
    assert "at most 3" in posted(client, {"instances": [image.tolist()] * 4}, status=413)["detail"]


def test_file_names_of_a_form_are_in_the_reply(client, png, number):
    names = ["a b.png", "ü 7.png", "💯.png"]
    files = [
        (io.BytesIO(upload), name) for upload, name in zip([png, b"x", png], names, strict=True)
    ]

    slots = client.post("/predict", data={"image": files}).json["predictions"]

    assert [slot["filename"] for slot in slots] == names
    assert "error" in slots[1]
    files = [(io.BytesIO(number), name) for name in names]
    slots = client.post("/predict?several=1", data={"image": files}).json["predictions"]
    assert [slot["filename"] for slot in slots] == names
    assert "filename" not in client.post("/predict", data={"image": (io.BytesIO(png), "x")}).json
