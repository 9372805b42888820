"""The alert rules and the dashboard, checked by a real Prometheus."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import pytest

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
        config = (DEPLOY / "prometheus.yml").read_text().replace("15s", "1s")
        host, _, there = service.url.removeprefix("http://").partition(":")
        config = config.replace("[service]", f"[{host}]").replace("8000", there)
        (folder / "prometheus.yml").write_text(config)
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


def test_dockerfile_uses_no_option_that_older_builders_lack():
    assert "--start-interval" not in (ROOT / "Dockerfile").read_text()
