"""What README and docs name exists: flags, settings, routes, metrics, files, links."""

import itertools
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from gunicorn.config import KNOWN_SETTINGS

from service.app import create_app
from service.classifier import load
from service.settings import EMBEDDED_WEIGHTS, InvalidSetting, read_server_settings, read_settings
from tests.conftest import ROOT
from tests.seams.containers import steps
from tests.seams.documents import (
    API,
    FENCE,
    OF_TODAY,
    OPERATIONS,
    PAGES,
    TRAINING,
    blocks,
    output_of,
    rows,
)
from tests.training.conftest import write_pictures
from training.__main__ import main

TRAINING_COMMANDS = ([], ["sweep"], ["check"], ["report"])
OF_OTHER_PROGRAMS = {  # curl, docker, torchrun, ruff, taskset
    *("--data-binary", "--profile", "--rm", "--tag"),
    *("--standalone", "--nproc-per-node", "--check", "--cpu-list"),
}
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(load(EMBEDDED_WEIGHTS)).test_client()


def help_of_training(capsys: pytest.CaptureFixture[str]) -> str:
    for command in TRAINING_COMMANDS:
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    return capsys.readouterr().out


def test_every_flag_that_is_shown_exists(capsys):
    known = {*FLAG.findall(help_of_training(capsys)), *OF_OTHER_PROGRAMS}
    known |= set(FLAG.findall(str([setting.cli for setting in KNOWN_SETTINGS])))
    scripts = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")]
    for script in [*scripts, ROOT / "service/__main__.py"]:
        known |= set(FLAG.findall(script.read_text()))
    # those of the steps for a person on call, which other tests follow
    for section in ("Kubernetes", "Swarm", "Compose", "systemd"):
        known |= set(FLAG.findall(str(steps(section))))
    for page in OF_TODAY:
        assert set(FLAG.findall(page.read_text())) <= known, page.name


@pytest.mark.slow
def test_own_digits_are_trained_on_as_shown(drawn, tmp_path, monkeypatch, capsys):
    write_pictures(drawn, tmp_path / "digits", 20)
    monkeypatch.chdir(tmp_path)
    section = (
        TRAINING.read_text().partition("### Your own digits")[2].partition("### Corrections")[0]
    )
    alone, tuned = re.findall(r'^make train ARGS="(.+)"$', section, re.MULTILINE)
    (shown,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)

    assert main(alone.split()) == 0
    assert capsys.readouterr().out.startswith(shown)
    assert main(tuned.split()) == 0

    saved = load(tmp_path / "own" / "digits.safetensors")
    assert saved.training["init"] == load(EMBEDDED_WEIGHTS).version
    assert f"{saved.training['epochs']}\nepochs" in TRAINING.read_text()


def test_every_flag_of_training_is_in_its_table(capsys):
    shown = rows(TRAINING, "flag")
    flags = {flag for row in shown for flag in FLAG.findall(row[0])}

    # those of the other commands are named in their sections
    others = {"--over", "--derivatives", "--help"}
    assert flags == set(FLAG.findall(help_of_training(capsys))) - others
    assert others <= set(FLAG.findall(TRAINING.read_text()))


def settings_in_effect() -> dict[str, str]:
    lines = output_of("python3 -m service settings", ROOT)
    return dict(line.split("=", 1) for line in lines.splitlines())


def test_settings_and_defaults_that_are_shown_are_those_in_effect():
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(OPERATIONS, "setting")}
    in_effect = settings_in_effect()

    assert set(shown) == set(in_effect)
    for name, default in shown.items():
        if re.fullmatch(r"[\d,.]+", default):
            assert default.replace(",", "") == in_effect[name], name


def test_ranges_of_settings_that_are_shown_are_those_that_are_accepted():
    ranges = {
        row[0].strip("`"): [int(n.replace(",", "")) for n in row[2].split(" to ")]
        for row in rows(OPERATIONS, "setting")
        if row[2]
    }

    assert len(ranges) >= 9
    for bound in (0, 1):
        settings = " ".join(f"{name}={limits[bound]}" for name, limits in ranges.items())
        output_of(f"{settings} python3 -m service settings", ROOT)
    for name, (low, high) in ranges.items():
        for beyond in (low - 1, high + 1):
            given = {name: str(beyond)}
            with pytest.raises(InvalidSetting, match=name):  # in whichever reads it
                (read_settings(given), read_server_settings(given))


def test_every_setting_that_is_named_exists():
    injected = {"DIGITS_PORT", "DIGITS_SERVICE_HOST"}  # by Kubernetes
    known = {*settings_in_effect(), *injected, "DIGITS_MNIST"}
    for page in OF_TODAY:
        named = set(re.findall(r"\bDIGITS_[A-Z_]*[A-Z]\b(?!…)", page.read_text()))
        assert named <= known, page.name


def test_limits_of_the_api_are_the_settings_defaults():
    in_effect = settings_in_effect()
    # the limits from that of a side on are fixed
    shown = itertools.takewhile(lambda row: "on a side" not in row[0], rows(API, "limit"))

    numbers = [number.replace(",", "") for row in shown for number in re.findall(r"[\d,]+", row[1])]
    limits = [v for name, v in in_effect.items() if name.startswith("DIGITS_MAX_")]
    assert sorted(numbers) == sorted(limits)


def test_every_route_and_status_is_described(client):
    paths = client.get("/openapi.json").json["paths"]
    shown = {path for row in rows(API, "route") for path in re.findall(r"`(/[^`]*)`", row[0])}
    statuses = {status for row in rows(API, "status") for status in re.findall(r"\d+", row[0])}

    assert shown == set(paths)
    responses = set(paths["/predict"]["post"]["responses"]) - {"200", "default"}
    assert responses <= statuses


def test_every_metric_is_described(client):
    exported = client.get("/metrics").text
    there = set(re.findall(r"^# TYPE (\w+)", exported, re.MULTILINE))
    shown = {name for row in rows(OPERATIONS, "metric") for name in re.findall(r"\w+", row[0])}

    assert shown == there


def test_every_alert_is_explained():
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy" / "alerts.yml").read_text())

    assert alerts
    for alert in alerts:
        assert f"\n| `{alert}`" in OPERATIONS.read_text(), alert


def test_every_make_verb_that_is_shown_exists():
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in OF_TODAY:
        code = "\n".join(
            [*(b.text for b in blocks(page)), *re.findall(r"`([^`]+)`", page.read_text())]
        )
        shown = set(re.findall(r"^make ([a-z][a-z-]*)", code, re.MULTILINE))
        assert shown <= verbs, page.name


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: page.name)
def test_every_path_and_module_that_is_named_exists(page):
    code = re.findall(r"`([^`\n]+)`", page.read_text())
    code += [block.text for block in blocks(page)]
    top = "service|training|tests|benchmarks|deploy|docs|examples"
    for path in re.findall(rf"(?<![\w/.])(?:{top})/[\w./-]*\w", "\n".join(code)):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python3? -m ([\w.]+)", page.read_text()):
        name = ROOT.joinpath(*module.split("."))
        is_module = name.with_suffix(".py").exists()
        assert is_module or (name / "__main__.py").exists(), module


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)
    links += re.findall(r'<img src="([^"]+)"', text)
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
