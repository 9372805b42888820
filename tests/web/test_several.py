"""?several=1: the numbers in pictures, in every kind of request and reply."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.classifier import Classifier, load
from service.images import read_image
from service.server.wsgi_keys import ADMIT
from service.settings import EMBEDDED_WEIGHTS
from service.web.bulk import NPY
from tests.conftest import encode
from tests.web.conftest import with_detector
from tests.web.test_openapi import is_described

SCALE, GAP = 4, 6  # of an MNIST image; its pixels between two digits
ASK = "the picture holds 3 digits: ask with several=1, or send one"


def picture_of(images: np.ndarray) -> np.ndarray:
    """Draw images (n, 28, 28) side by side, dark on light."""
    row = np.concatenate([np.pad(image, ((0, 0), (0, GAP))) for image in images], axis=1)
    return 255 - np.pad(row, 14).repeat(SCALE, 0).repeat(SCALE, 1)


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    """Return the shipped model with a detector that takes everything for a digit."""
    return with_detector(load(EMBEDDED_WEIGHTS), 9.0, 0.5)


@pytest.fixture(scope="module")
def client(shipped):
    return create_app(shipped).test_client()


@pytest.fixture(scope="module")
def three(drawn) -> np.ndarray:
    """Return images of a 2, a 0 and a 7."""
    return np.stack([drawn.test.images[drawn.test.labels == digit][0] for digit in (2, 0, 7)])


@pytest.fixture(scope="module")
def upload(three) -> bytes:
    return encode(picture_of(three))


def post(client, uploads: list[bytes], query: str, **more):
    files = [(io.BytesIO(upload), "x.png") for upload in uploads]
    return client.post(f"/predict{query}", data={"image": files}, **more)


def test_picture_of_several_digits_is_refused_with_what_to_ask_for(client, upload):
    reply = post(client, [upload], "")

    assert (reply.status_code, reply.mimetype) == (422, "application/problem+json")
    assert (reply.json["detail"], reply.json["n_digits"]) == (ASK, 3)
    is_described(reply, "/predict", "post")


def test_number_is_read_with_the_place_and_the_probabilities_of_each_digit(
    client, upload, three, shipped
):
    reply = post(client, [upload], "?several=1")

    assert (reply.status_code, reply.mimetype) == (200, "application/json")
    is_described(reply, "/predict", "post")
    assert list(reply.json) == ["number", "digits", "probability", "model"]
    assert reply.json["number"] == "207"
    assert reply.json["model"] == shipped.version
    products = 1.0
    for i, digit in enumerate(reply.json["digits"]):
        assert list(digit) == ["digit", "probability", "is_digit", "probabilities", "box"]
        assert digit["probability"] == max(digit["probabilities"])
        products *= digit["probability"] * digit["is_digit"]
        ink = np.argwhere(picture_of(three) < 128)
        left = 14 * SCALE + i * (28 + GAP) * SCALE
        ink = ink[(left <= ink[:, 1]) & (ink[:, 1] < left + 28 * SCALE)]
        (top, left), (bottom, right) = ink.min(axis=0), ink.max(axis=0)
        x, y, width, height = digit["box"]
        expected = [left, top, right, bottom]
        np.testing.assert_allclose([x, y, x + width, y + height], expected, atol=2 * SCALE)
    assert reply.json["probability"] <= products + 1e-6


def test_boxes_are_in_pixels_of_the_upright_picture(client, upload, three):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown a quarter turn clockwise
    lying = np.rot90(picture_of(three))

    upright = post(client, [upload], "?several=1").json["digits"]
    shown = post(client, [encode(lying, exif=turned)], "?several=1").json["digits"]

    assert [digit["box"] for digit in shown] == [digit["box"] for digit in upright]


def test_one_digit_is_a_number_of_one_digit(client, three):
    for picture in (three[2], picture_of(three[2:])):
        reply = post(client, [encode(picture)], "?several=1")
        assert reply.json["number"] == "7"
        assert len(reply.json["digits"]) == 1
        is_described(reply, "/predict", "post")


def test_each_picture_of_a_form_has_its_number_or_its_error(client, upload, three):
    uploads = [upload, b"no picture", encode(picture_of(three[::-1])), encode(255 - three[0] * 0)]

    reply = post(client, uploads, "?several=1")

    is_described(reply, "/predict", "post")
    assert list(reply.json) == ["predictions", "model"]
    slots = reply.json["predictions"]
    assert [slot.get("number") for slot in slots] == ["207", None, "702", None]
    assert [slots[i]["error"]["status"] for i in (1, 3)] == [415, 422]
    alone = post(client, [upload], "?several=1").json
    assert all(slot.pop("filename") for slot in slots)
    assert slots[0] == {name: alone[name] for name in slots[0]}


def test_form_without_several_refuses_a_number_in_its_own_slot(client, upload, three):
    slots = post(client, [encode(three[0]), upload], "").json["predictions"]

    assert slots[0]["digit"] == 2
    assert slots[1]["error"]["detail"] == ASK


def test_every_digit_of_a_number_is_explained(client, upload):
    reply = post(client, [upload], "?several=1&explain=1&timing=1")

    is_described(reply, "/predict", "post")
    for digit in reply.json["digits"]:
        assert digit["explanation"]["answer"] == digit["digit"]
        assert np.shape(digit["explanation"]["image"]) == (28, 28)
    assert "explain;dur=" in reply.headers["Server-Timing"]


@pytest.mark.parametrize("value", ["2", "", "yes", "-1"])
def test_other_values_of_several_are_refused(client, upload, value):
    reply = post(client, [upload], f"?several={value}")

    assert reply.status_code == 400
    assert reply.json["detail"] == f"several is {value!r}; set it to 0 or 1"
    is_described(reply, "/predict", "post")


@pytest.mark.parametrize("name", ["explain", "several", "timing"])
@pytest.mark.parametrize("values", [("1", "0"), ("0", "1"), ("1", "1")])
def test_option_that_is_repeated_in_the_query_is_refused(client, upload, name, values):
    reply = post(client, [upload], "?" + "&".join(f"{name}={value}" for value in values))

    assert reply.status_code == 400
    assert reply.json["detail"] == f"{name} is in the query 2 times; send it once"
    is_described(reply, "/predict", "post")


def test_several_is_refused_in_bulk_and_for_npy_replies(client, upload, three):
    bulk = {"data": three.tobytes(), "content_type": "application/octet-stream"}

    replies = [
        client.post("/predict?several=1", **bulk),
        post(client, [upload], "?several=1", headers={"Accept": NPY}),
    ]

    for reply in replies:
        assert reply.status_code == 400
        assert "only for pictures" in reply.json["detail"]


def test_explain_of_several_pictures_is_refused_with_several_too(client, upload):
    reply = post(client, [upload, upload], "?several=1&explain=1")

    assert reply.status_code == 400


def test_several_0_is_a_request_without_it(client, three):
    reply = post(client, [encode(three[1])], "?several=0")

    assert reply.data == post(client, [encode(three[1])], "").data


def test_several_costs_as_much_as_ten_small_pictures(client, upload):
    costs: list[float] = []

    for query in ("", "?several=1"):
        reply = post(client, [upload] * 3, query, environ_overrides={ADMIT: costs.append})
        assert reply.status_code == 503  # a server that has too much work returns false
    assert costs[1] - costs[0] == pytest.approx(3 * 9, abs=0.01)


def test_numbers_are_counted_digit_by_digit(shipped, upload):
    app = create_app(shipped)

    post(app.test_client(), [upload], "?several=1")

    totals = app.extensions["digits"].metrics.totals()
    assert [totals["digits_predictions", digit] for digit in "2071"] == [1, 1, 1, 0]
    assert totals["digits_pictures", "read"] == 1


def test_weights_file_without_a_detector_reads_numbers_without_is_digit(shipped, upload):
    client = create_app(replace(shipped, detector=None)).test_client()

    reply = post(client, [upload], "?several=1")

    is_described(reply, "/predict", "post")
    assert reply.json["number"] == "207"
    assert not any("is_digit" in digit for digit in reply.json["digits"])


def test_number_of_a_model_of_some_digits_has_its_classes(three):
    weight = np.random.default_rng(0).normal(size=(784, 2)).astype(np.float32)
    binary = Classifier(weight, np.zeros(2, np.float32), (3, 8), "pixels")

    reply = post(create_app(binary).test_client(), [encode(three[0])], "?several=1")

    is_described(reply, "/predict", "post")
    assert reply.json["classes"] == [3, 8]
    assert reply.json["number"] in ("3", "8")


def test_picture_of_one_digit_is_read_as_the_command_line_reads_it(client, shipped, three):
    upload = encode(picture_of(three[:1]))

    reply = post(client, [upload], "")

    scores = shipped.score(read_image(upload)[np.newaxis])
    np.testing.assert_allclose(reply.json["probabilities"], scores.probabilities[0], rtol=1e-6)


def test_parts_that_do_not_look_like_digits_are_counted(three):
    """A detector that takes nothing for a digit refuses the number, and counts its parts."""
    app = create_app(with_detector(load(EMBEDDED_WEIGHTS), -9.0, 0.5))

    for upload, n in ((encode(picture_of(three)), 3), (encode(three[0]), 1)):
        before = app.extensions["digits"].metrics.totals()
        reply = post(app.test_client(), [upload], "?several=1")
        after = app.extensions["digits"].metrics.totals()

        assert reply.status_code == 422
        assert reply.json["detail"] == "a part of the number does not look like a digit"
        assert after["digits_nondigits",] - before["digits_nondigits",] == n
        assert after["digits_pictures", "refused"] - before["digits_pictures", "refused"] == 1


def test_what_several_cannot_read_is_refused_without_that_advice(client, three):
    picture = np.concatenate([picture_of(three[:2])] * 2)

    for query in ("", "?several=1"):
        reply = post(client, [encode(picture)], query)
        assert reply.status_code == 422
        assert reply.json["detail"] == "the picture holds several rows of digits; send one row"
