"""API keys: their setting, and the routes that require one."""

import hashlib
import os
import signal
import subprocess
import sys

import pytest

from service.app import create_app
from service.settings import InvalidSetting, read_settings
from tests.conftest import ROOT, answers, curl, encode, running_service, wait_until

KEY, OTHER = "s3cret", "an0ther"
DIGESTS = [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER)]


@pytest.fixture
def client(classifier):
    settings = read_settings({"DIGITS_API_KEYS": ",".join(DIGESTS)})
    return create_app(classifier, settings).test_client()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer  {OTHER} "}, 200),
        ({"X-API-Key": KEY}, 200),
        ({"X-API-Key": KEY, "Authorization": "Bearer another's"}, 200),
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {DIGESTS[0]}"}, 401),
        ({"X-API-Key": KEY.upper()}, 401),
        ({"X-API-Key": "\u00e9\u00ff"}, 401),
        ({"digits.authorized": "True"}, 401),
    ],
)
def test_predictions_and_the_model_require_a_key(client, drawn, headers, status):
    upload = encode(drawn.test.images[0])
    for reply in (
        client.post("/predict", data=upload, content_type="image/png", headers=headers),
        client.post("/predict?a", data=b"", content_type="image/png", headers=headers),
        client.get("/model", headers=headers),
    ):
        assert (reply.status_code == 401) == (status == 401)
        if status == 401:
            assert reply.headers["WWW-Authenticate"] == "Bearer"
            assert reply.json["detail"] == (
                "missing or unknown API key; send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            )
            assert KEY not in reply.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json"])
def test_probes_metrics_and_the_api_description_require_no_key(client, path):
    assert client.get(path).status_code == 200


def test_digests_are_read_from_a_file_as_sha256sum_writes_it(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"\ufeff{DIGESTS[0]}  -\n# Ada's\n{DIGESTS[1]}  # Bob's\n")

    assert read_settings({"DIGITS_API_KEYS": str(path)}).api_keys == tuple(DIGESTS)
    assert read_settings({}).api_keys == ()


def test_pipe_in_place_of_the_file_of_digests_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidSetting, match="cannot be read: it is a pipe"):
        read_settings({"DIGITS_API_KEYS": str(tmp_path / "pipe")})


EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "setting", [KEY, DIGESTS[0] + ",x", ",", "/absent/keys", f"{KEY}/x", EMPTY, "#"]
)
def test_invalid_digest_is_refused_and_never_shown(setting):
    with pytest.raises(InvalidSetting, match="DIGITS_API_KEYS") as refused:
        read_settings({"DIGITS_API_KEYS": setting})

    assert KEY not in str(refused.value)


def test_printed_settings_do_not_show_the_keys():
    out = subprocess.run(
        [sys.executable, "-m", "service", "settings"],
        cwd=ROOT,
        env={"DIGITS_API_KEYS": " ".join(DIGESTS)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert "DIGITS_API_KEYS=**\n" in out
    assert DIGESTS[0] not in out


def test_sighup_reads_the_key_file_again_and_an_invalid_one_keeps_the_previous_keys(
    weights, tmp_path
):
    path = tmp_path / "keys"
    path.write_text(DIGESTS[0])

    def admits(key: str) -> bool:
        return curl("-H", f"X-API-Key: {key}", f"{service.url}/model")[0] == 200

    def renew() -> None:
        before = set(service.workers())
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & set(service.workers()))
        wait_until(lambda: answers(f"{service.url}/readyz"))

    with running_service(DIGITS_WEIGHTS=str(weights), DIGITS_API_KEYS=str(path)) as service:
        assert (admits(KEY), admits(OTHER)) == (True, False)
        path.write_text(DIGESTS[1])
        renew()
        assert (admits(KEY), admits(OTHER)) == (False, True)
        path.write_text("half a dig")
        renew()
        assert (admits(KEY), admits(OTHER)) == (False, True)
        service.process.terminate()
        log = "".join(service.process.communicate(timeout=30))

    assert "DIGITS_API_KEYS: item 1 is not a SHA-256 digest" in log
    assert "keeping the previous API keys" in log
