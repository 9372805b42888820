"""Images that do not look like a digit, in every kind of request and reply."""

import io
from dataclasses import replace

import numpy as np
import pytest

from service.app import create_app
from service.classifier import load, save
from service.server.wsgi_keys import DEFER
from service.web.bulk import NPY
from tests.conftest import encode
from tests.web.test_fast_path import call, environ, form

BYTES = "application/octet-stream"
DETAIL = "this does not look like a digit"


@pytest.fixture(scope="module")
def images(drawn) -> np.ndarray:
    return drawn.test.images[:40]


@pytest.fixture(scope="module")
def refused(detecting, images) -> np.ndarray:
    """Return which of the images the detector refuses: some, and not all."""
    refused = np.isin(np.arange(len(images)), detecting.refused(detecting.score(images)))
    assert 0 < refused.sum() < len(images)
    return refused


def post_form(client, uploads: list[bytes], query: str = "", **headers: str):
    files = [(io.BytesIO(upload), "x.png") for upload in uploads]
    return client.post(f"/predict{query}", data={"image": files}, headers=headers)


def test_reply_holds_the_probability_of_a_digit_after_that_of_the_answer(
    detecting_client, detecting, images, refused
):
    i = refused.argmin()

    reply = post_form(detecting_client, [encode(images[i])])

    expected = detecting.score(images[i : i + 1]).is_digit[0]
    assert reply.status_code == 200
    assert list(reply.json) == ["digit", "probability", "is_digit", "probabilities", "model"]
    assert reply.json["is_digit"] == float(f"{expected:.7g}")
    assert reply.json["is_digit"] >= detecting.detector.threshold


def test_picture_under_the_threshold_is_refused_with_the_nearest_digit(
    detecting_client, detecting, images, refused
):
    i = refused.argmax()

    reply = post_form(detecting_client, [encode(images[i])])

    (probabilities,), (expected,) = detecting.score(images[i : i + 1])
    assert (reply.status_code, reply.mimetype) == (422, "application/problem+json")
    assert reply.json == {
        "type": "about:blank",
        "title": reply.json["title"],
        "status": 422,
        "detail": DETAIL,
        "is_digit": float(f"{expected:.7g}"),
        "digit": probabilities.argmax(),
    }
    assert reply.json["is_digit"] < detecting.detector.threshold


def test_fast_path_refuses_and_accepts_byte_for_byte_as_flask_does(detecting, images, refused):
    fast_path = create_app(detecting).wsgi_app
    passed_on = []

    for i in range(len(images)):
        for body, kind in ((encode(images[i]), "image/png"), (form(encode(images[i])), None)):
            request = environ(body, **({"CONTENT_TYPE": kind} if kind else {}))
            fast = call(fast_path, request | {DEFER: lambda *call: passed_on.append(call)})
            request["wsgi.input"].seek(0)
            theirs = call(fast_path.application, request)
            assert fast == theirs
            assert fast[0][:3] == ("422" if refused[i] else "200")
    assert passed_on == []


def test_images_of_one_batch_are_refused_as_they_are_alone(detecting, images):
    fast_path = create_app(detecting).wsgi_app
    bodies = [form(encode(image)) for image in images]
    alone = [call(fast_path, environ(body))[::2] for body in bodies]

    starts: list[list] = [[] for _ in bodies]
    begun = [
        fast_path(environ(body), lambda *start, i=i: starts[i].append(start[0]))
        for i, body in enumerate(bodies)
    ]
    together = [b"".join(reply) for reply in begun]

    assert [(*start, data) for start, data in zip(starts, together, strict=True)] == alone


def test_refused_pictures_of_a_form_have_an_error_in_their_slots(detecting_client, images, refused):
    uploads = [b"no picture", *map(encode, images)]

    slots = post_form(detecting_client, uploads).json["predictions"]

    assert slots[0]["error"]["status"] == 415
    for slot, image, is_refused in zip(slots[1:], images, refused, strict=True):
        alone = post_form(detecting_client, [encode(image)]).json
        del slot["filename"]
        assert slot == (
            {"error": alone} if is_refused else {k: v for k, v in alone.items() if k != "model"}
        )
        assert slot.get("error", {}).get("detail", DETAIL) == DETAIL


@pytest.mark.parametrize("kind", [BYTES, NPY])
def test_refused_images_in_bulk_have_errors_or_rows_of_nan(
    detecting_client, detecting, images, refused, kind
):
    batch = np.concatenate([np.zeros((1, 28, 28), np.uint8), images])
    file = io.BytesIO()
    np.save(file, batch)
    body = {"data": file.getvalue() if kind == NPY else batch.tobytes(), "content_type": kind}

    slots = detecting_client.post("/predict", **body).json["predictions"]
    reply = detecting_client.post("/predict", **body, headers={"Accept": NPY})

    details = [slot.get("error", {}).get("detail", "") for slot in slots]
    assert "blank" in details[0]
    assert [detail == DETAIL for detail in details[1:]] == refused.tolist()
    assert all("is_digit" in slot.get("error", slot) for slot in slots[1:])
    rows = np.load(io.BytesIO(reply.data))
    assert np.isnan(rows).all(axis=1).tolist() == [True, *refused]
    expected = detecting.score(images).probabilities.astype(np.float32)
    np.testing.assert_array_equal(rows[1:][~refused], expected[~refused])


def test_single_refused_picture_is_a_problem_even_where_npy_is_accepted(
    detecting_client, images, refused
):
    reply = post_form(detecting_client, [encode(images[refused.argmax()])], Accept=NPY)

    assert (reply.status_code, reply.json["detail"]) == (422, DETAIL)


def test_explained_refusal_shows_the_image_and_the_evidence(detecting_client, images, refused):
    i = refused.argmax()

    problem = post_form(detecting_client, [encode(images[i])], "?explain=1").json

    assert problem["detail"] == DETAIL
    assert problem["explanation"]["image"] == images[i].tolist()
    assert problem["explanation"]["answer"] == problem["digit"]
    logit = problem["explanation"]["digit_logit"]
    assert problem["is_digit"] == pytest.approx(1 / (1 + np.exp(-logit)))


def test_metrics_count_refused_images_apart_from_predictions(detecting, images, refused):
    app = create_app(detecting)
    client = app.test_client()

    for image in images:
        post_form(client, [encode(image)])
    client.post("/predict", data=images.tobytes(), content_type=BYTES)

    text = client.get("/metrics").text
    n_refused, n_answered = 2 * refused.sum(), 2 * (~refused).sum()
    assert f"\ndigits_nondigits_total {n_refused:.1f}\n" in text
    assert f"\ndigits_top_probability_count {n_answered:.1f}\n" in text
    assert f"\ndigits_is_digit_count {2 * len(images):.1f}\n" in text
    totals = app.extensions["digits"].metrics.totals()
    assert sum(totals["digits_predictions", str(digit)] for digit in range(10)) == n_answered


def test_weights_file_without_a_detector_serves_without_the_probability(
    classifier, images, tmp_path
):
    path = tmp_path / "digits.safetensors"
    save(replace(classifier, detector=None), path)
    client = create_app(load(path)).test_client()

    reply = post_form(client, [encode(images[0])]).json
    slots = post_form(client, [*map(encode, images[:2])]).json["predictions"]

    assert list(reply) == ["digit", "probability", "probabilities", "model"]
    assert all(
        list(slot) == ["digit", "probability", "probabilities", "filename"] for slot in slots
    )
    model = client.get("/model").json
    assert model["format"] == "1"
    assert "is_digit_threshold" not in model


def test_model_route_names_the_format_and_the_threshold(detecting, detecting_client):
    model = detecting_client.get("/model").json

    assert model["format"] == "2"
    assert model["is_digit_threshold"] == detecting.detector.threshold
