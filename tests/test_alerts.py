"""The alert rules, held to Prometheus's own checker and to the metrics there are."""

import re
import shutil
import subprocess

import pytest

from service.metrics import Metrics
from tests.conftest import ROOT

RULES = ROOT / "deploy" / "alerts.yml"


def test_promtool_accepts_the_rules():
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")

    run = subprocess.run(
        ["promtool", "check", "rules", str(RULES)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr


def test_rules_ask_for_metrics_that_there_are(classifier):
    metrics = Metrics()
    metrics.request("/predict", "POST", "503", 0.1)
    metrics.request("/predict", "POST", "500", 0.1)
    text = metrics.text(classifier)[0].decode()

    names = set(re.findall(r"\bdigits_\w+", RULES.read_text()))
    selectors = re.findall(r'(digits_\w+){(\w+="[^"]+")}', RULES.read_text())

    assert len(names) >= 5
    for name in names:
        assert re.search(rf"^{name}[ {{]", text, re.MULTILINE), name
    for name, selector in selectors:
        assert re.search(rf"^{name}{{[^}}]*{selector}", text, re.MULTILINE), selector
