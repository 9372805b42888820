"""What the README shows is what happens. Its verbs are run by CI."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from service.classifier import load
from service.settings import DEFAULT_LIMITS, EMBEDDED_WEIGHTS, KNOWN
from tests.conftest import ROOT, answers, free_port, running_service, wait_until
from training.__main__ import main

README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def test_the_curl_that_is_shown_gets_the_reply_that_is_shown():
    command = next(block for block in blocks("sh") if block.startswith("curl"))
    (shown,) = blocks("json")

    with running_service() as service:
        there = command.strip().replace("http://127.0.0.1:8000", service.url)
        answered = subprocess.run(
            there.split(), cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout

    reply, expected = json.loads(answered), json.loads(shown)
    assert reply["probabilities"] == pytest.approx(
        expected.pop("probabilities"), rel=1e-4
    )
    assert reply["probability"] == pytest.approx(expected.pop("probability"), rel=1e-4)
    assert expected.items() <= reply.items()


def test_the_bulk_commands_that_are_shown_are_answered(tmp_path, drawn):
    commands = next(block for block in blocks("sh") if "images.npy" in block)
    np.save(tmp_path / "images.npy", drawn.test.images)
    for name in ("docs", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)

    with running_service() as service:
        answered = subprocess.run(
            commands.replace("http://127.0.0.1:8000", service.url),
            shell=True,
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    good, bad = json.loads(answered)["predictions"]
    assert good["digit"] == 5
    assert bad["error"]["status"] == 415
    rows = np.load(tmp_path / "probabilities.npy")
    assert rows.shape == (len(drawn.test.images), 10)


def test_every_make_verb_that_is_shown_exists():
    shown = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(blocks("sh"))))
    verbs = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )

    assert shown
    assert shown <= verbs


def test_every_flag_and_setting_that_is_shown_exists(capsys):
    for command in ([], ["sweep"], ["check"], ["report"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    help_text = capsys.readouterr().out
    of_others = {"--rm", "--profile", "--data-binary"}  # docker's, curl's
    help_text += (ROOT / "benchmarks/robustness.py").read_text()
    for flag in set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", README)) - of_others:
        assert flag in help_text, flag
    assert set(re.findall(r"\bDIGITS_[A-Z_]+", README)) == set(KNOWN)


def test_defaults_that_are_shown_are_those_in_effect():
    shown = re.findall(r"^\| `DIGITS_MAX_(\w+)` \| ([\d,]+) \|", README, re.MULTILINE)

    assert len(shown) >= 4
    for name, value in shown:
        assert getattr(DEFAULT_LIMITS, f"max_{name.lower()}") == int(
            value.replace(",", "")
        )


def test_every_alert_is_explained():
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy" / "alerts.yml").read_text())

    assert alerts
    for alert in alerts:
        assert f"| `{alert}`" in README, alert


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
def test_the_proxy_that_is_shown_passes_requests_on(weights, tmp_path):
    (location,) = blocks("nginx")
    port = free_port()
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        location = location.replace("http://127.0.0.1:8000", service.url)
        (tmp_path / "nginx.conf").write_text(
            f"""daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}
            http {{ access_log off; client_body_temp_path {tmp_path}/body;
            proxy_temp_path {tmp_path}/proxy; fastcgi_temp_path {tmp_path}/fastcgi;
            uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi;
            server {{ listen 127.0.0.1:{port}; {location} }} }}"""
        )
        nginx = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf")])
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
            upload = f"image=@{ROOT / 'docs' / 'digit.png'}"
            command = ["curl", "-s", "-i", "-F", upload]
            replies = [
                subprocess.run(
                    [*command, f"http://127.0.0.1:{port}/predict"],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
                for _ in range(3)
            ]
        finally:
            nginx.terminate()
            nginx.wait(timeout=30)

    for reply in replies:
        assert "200 OK" in reply
        assert re.search(r"X-Request-ID: [0-9a-f]{32}\b", reply)


def test_every_file_that_is_linked_exists():
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        file, _, heading = link.partition("#")
        assert Path(ROOT / file).exists(), link
        assert not heading or f"# {heading}\n" in README.lower(), link


def test_figures_that_are_shown_are_those_of_the_weights_that_ship():
    shipped = load(EMBEDDED_WEIGHTS)

    assert f"what the job reported, {shipped.evaluation['accuracy']:.4f}" in README
    n_parameters = shipped.weight.size + shipped.bias.size
    assert f"{n_parameters:,} parameters" in README
