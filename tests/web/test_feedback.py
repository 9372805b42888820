"""POST /feedback: what is kept, what is refused, and that nothing else is written."""

import concurrent.futures
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.feedback import MAX_CORRECTIONS, corrections
from service.settings import read_settings
from tests.conftest import curl, encode, running_service
from tests.web.test_auth import DIGESTS, KEY
from tests.web.test_openapi import is_described


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "corrections"


def client_of(classifier, folder, **settings: str):
    settings = read_settings({"DIGITS_FEEDBACK_DIR": str(folder), **settings})
    return create_app(classifier, settings).test_client()


@pytest.fixture
def keeping(classifier, folder):
    """Return a client of a service that keeps corrections."""
    return client_of(classifier, folder)


def post(client, picture: bytes, digit: object = "4", name: str = "x.png", **how):
    fields = {"image": (io.BytesIO(picture), name), "digit": digit}
    return client.post("/feedback", data=fields, **how)


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_picture_answer_and_correction_are_kept(detecting, folder, drawn):
    client, picture = (
        client_of(detecting, folder),
        encode(drawn.test.images[drawn.test.labels == 7][0]),
    )
    predicted = client.post("/predict", data={"image": (io.BytesIO(picture), "x.png")}).json

    reply = post(client, picture, "4")

    assert reply.status_code == 200
    is_described(reply, "/feedback", "post")
    names = ("digit", "probability", "is_digit", "model")
    assert reply.json["answer"] == {name: predicted[name] for name in names if name in predicted}
    (kept,) = corrections(folder)
    assert kept.picture.read_bytes() == picture
    assert (kept.digit, kept.answer) == (4, reply.json["answer"])
    assert kept.picture.stem == reply.json["correction"]


def test_picture_that_is_refused_as_no_digit_is_kept_too(detecting, folder, drawn):
    client = client_of(detecting, folder)
    pictures = [encode(image) for image in drawn.test.images[:20]]
    refused = [p for p in pictures if client.post("/predict", data=p).status_code == 422]
    assert refused

    assert post(client, refused[0], "none").json["digit"] is None
    assert corrections(folder)[0].answer["is_digit"] < 0.5


def test_nothing_is_kept_without_the_setting(client, drawn):
    reply = post(client, encode(drawn.test.images[0]))

    assert reply.status_code == 404
    assert "keeps no corrections" in reply.json["detail"]
    is_described(reply, "/feedback", "post")
    assert "feedback" not in client.get("/model").json


def test_model_says_that_corrections_are_kept(keeping):
    reply = keeping.get("/model")

    assert reply.json["feedback"] is True
    is_described(reply, "/model")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"digit": "10"}, "the digit is '10'; send one of none, 0, 1"),
        ({"digit": "-1"}, "'-1'"),
        ({"digit": "٤"}, "'٤'"),
        ({"digit": ""}, "the digit is ''"),
        ({"digit": "4" * 9000}, "'" + "4" * 60 + "'"),
        ({"digit": ["4", "5"]}, "in the form 2 times"),
        ({}, "in the form 0 times"),
        ({"digit": "4", "file": "x"}, ""),
        ({"digit": "4", "image": 2}, "2 pictures; send one"),
    ],
)
def test_form_that_is_no_correction_is_refused(keeping, folder, drawn, fields, said):
    picture = encode(drawn.test.images[0])
    images = [(io.BytesIO(picture), "x.png") for _ in range(fields.pop("image", 1))]
    reply = keeping.post("/feedback", data={"image": images, **fields})

    if said:
        assert reply.status_code == 400
        assert said in reply.json["detail"]
        is_described(reply, "/feedback", "post")
        assert contents(folder) == []
    else:  # another field
        assert reply.status_code == 200


@pytest.mark.parametrize(
    ("picture", "status"),
    [
        (b"", 400),
        (b"no picture", 415),
        (b"<svg/>", 415),
        (encode(np.full((40, 40), 255, np.uint8)), 422),
        (encode(np.zeros((28, 28), np.uint8))[:40], 422),
        (encode(Image.new("1", (6000, 6000))), 422),
    ],
    ids=["empty", "text", "svg", "blank", "cut off", "huge"],
)
def test_picture_that_cannot_be_read_is_not_kept(keeping, folder, picture, status):
    reply = post(keeping, picture)

    assert reply.status_code == status
    is_described(reply, "/feedback", "post")
    assert contents(folder) == []


@pytest.mark.parametrize("kind", ["image/png", "application/json", "application/octet-stream"])
def test_body_that_is_no_form_is_refused(keeping, drawn, kind):
    body = {"image/png": encode(drawn.test.images[0]), "application/json": b'{"instances": []}'}
    reply = keeping.post("/feedback", data=body.get(kind, bytes(784)), content_type=kind)

    assert reply.status_code == 400
    is_described(reply, "/feedback", "post")


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/passwd", "a\\b", "..", ".lock", "x" * 1000, "\u202e.png", "0.json"],
)
def test_file_name_of_the_client_names_no_path(keeping, folder, drawn, name):
    reply = post(keeping, encode(drawn.test.images[0]), name=name)

    assert reply.status_code == 200
    assert contents(folder) == [f"{reply.json['correction']}.{kind}" for kind in ("json", "png")]
    assert name not in (folder / contents(folder)[0]).read_text()
    assert contents(folder.parent) == ["corrections"]


def test_key_is_required_where_predictions_require_one(classifier, folder, drawn):
    client = client_of(classifier, folder, DIGITS_API_KEYS=",".join(DIGESTS))
    picture = encode(drawn.test.images[0])

    assert post(client, picture).status_code == 401
    assert contents(folder) == []
    assert post(client, picture, headers={"X-API-Key": KEY}).status_code == 200


def test_page_of_another_site_cannot_correct(keeping, folder, drawn):
    picture, headers = encode(drawn.test.images[0]), {"Sec-Fetch-Site": "cross-site"}

    assert post(keeping, picture, headers=headers).status_code == 403
    assert contents(folder) == []


def test_folder_that_is_gone_or_full_is_a_507_and_a_log_line(keeping, folder, drawn, caplog):
    for i in range(MAX_CORRECTIONS):
        (folder / f"{i:024x}.json").touch()
    full = post(keeping, encode(drawn.test.images[0]))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    gone = post(keeping, encode(drawn.test.images[0]))

    for reply in (full, gone):
        assert reply.status_code == 507
        is_described(reply, "/feedback", "post")
        assert str(folder) not in reply.json["detail"]
    assert "has 1,000 corrections" in full.json["detail"]
    assert "No such file or directory" in gone.json["detail"]
    assert len([r for r in caplog.records if "not kept" in r.message]) == 2
    counted = keeping.get("/metrics").text
    assert 'digits_feedback_total{outcome="failed"} 2.0' in counted
    assert 'digits_feedback_total{outcome="kept"} 0.0' in counted


@pytest.mark.slow
def test_workers_keep_what_many_clients_post_at_once(config, weights, folder, drawn, tmp_path):
    pictures = []
    for i, image in enumerate(drawn.test.images[:40]):
        pictures.append(tmp_path / f"{i}.png")
        pictures[-1].write_bytes(encode(image))
    with running_service(
        config=config, DIGITS_WEIGHTS=str(weights), DIGITS_FEEDBACK_DIR=str(folder)
    ) as service:

        def correct(i: int) -> int:
            image = f"image=@{pictures[i % 40]}"
            return curl("-F", image, "-F", f"digit={i % 10}", f"{service.url}/feedback")[0]

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            statuses = [*pool.map(correct, range(160))]
    assert set(statuses) == {200}
    assert len(corrections(folder)) == 40
    assert len(contents(folder)) == 80
    for path in folder.glob("*.json"):
        assert json.loads(path.read_text())["picture"] == f"{path.stem}.png"


def test_start_stops_with_one_line_where_the_folder_cannot_be_written(classifier, monkeypatch):
    monkeypatch.setenv("DIGITS_FEEDBACK_DIR", "/proc/corrections")

    with pytest.raises(SystemExit, match=r"^digits: DIGITS_FEEDBACK_DIR is '/proc/corrections': "):
        create_app(classifier)
