"""The Kubernetes manifests: built by kustomize, validated strictly, field by field.

No cluster is needed. tests/seams/test_container.py runs the container of the Deployment.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import EMBEDDED_WEIGHTS, read_settings
from tests.conftest import ROOT
from tests.seams.containers import steps
from tests.seams.documents import OPERATIONS, output_of

FOLDER = ROOT / "deploy" / "kubernetes"
BASE, OVERLAYS = FOLDER / "base", sorted((FOLDER / "overlays").iterdir())
WRITER = FOLDER / "components" / "weights" / "writer.yaml"
OLDEST, NEWEST = "1.25", "1.36"  # versions of Kubernetes
CUSTOM = {"ServiceMonitor", "InferenceService"}  # kinds that Kubernetes itself lacks
LABELS = {"app.kubernetes.io/name": "digits"}
# what a pod needs at most to leave the endpoints of every node; see docs/operations.md
LEAVE_ENDPOINTS = 5  # seconds
WORKER_MEMORY = 300  # MB, the peak that docs/operations.md records
UNITS = {"Mi": 2**20, "Gi": 2**30}

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")


@cache
def kustomized(folder: Path) -> str:
    command = ["kubectl", "kustomize", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def build(folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(kustomized(folder)))


def of_kind(folder: Path, kind: str) -> dict[str, Any]:
    (found,) = [document for document in build(folder) if document["kind"] == kind]
    return found


def pod(folder: Path) -> dict[str, Any]:
    return of_kind(folder, "Deployment")["spec"]["template"]["spec"]


def container(folder: Path) -> dict[str, Any]:
    (found,) = pod(folder)["containers"]
    return found


def predictor() -> dict[str, Any]:
    return of_kind(FOLDER / "overlays" / "kserve", "InferenceService")["spec"]["predictor"]


PODS = {
    "base": lambda: pod(BASE),
    "keys": lambda: pod(FOLDER / "overlays" / "keys"),
    "weights": lambda: pod(FOLDER / "overlays" / "weights"),
    "kserve": predictor,
    "writer": lambda: yaml.safe_load(WRITER.read_text())["spec"],
}


def environment(folder: Path) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(folder)["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda folder: folder.name)
def test_every_manifest_passes_strict_validation(folder, version):
    documents = build(folder)

    assert documents
    for document in documents:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


def test_validation_is_strict():
    deployment = of_kind(BASE, "Deployment")
    deployment["spec"]["template"]["spec"]["enableServiceLink"] = False

    with pytest.raises(kubernetes_validate.ValidationError, match="enableServiceLink"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def test_pod_that_writes_weights_passes_strict_validation():
    kubernetes_validate.validate(yaml.safe_load(WRITER.read_text()), NEWEST, strict=True)


def test_every_object_applies_to_the_pods_of_the_deployment():
    deployment = of_kind(BASE, "Deployment")
    autoscaler = of_kind(BASE, "HorizontalPodAutoscaler")["spec"]

    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    assert of_kind(BASE, "Service")["spec"]["selector"] == LABELS
    assert of_kind(BASE, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == LABELS
    assert of_kind(BASE, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == LABELS
    assert autoscaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_probes_ask_the_routes_that_are_meant_for_them():
    probes = {
        name: container(BASE)[f"{name}Probe"]["httpGet"]
        for name in ("startup", "readiness", "liveness")
    }

    assert probes["liveness"] == {"path": "/livez", "port": "http"}
    assert probes["readiness"] == probes["startup"] == {"path": "/readyz", "port": "http"}
    assert container(BASE)["ports"] == [{"name": "http", "containerPort": 8000}]
    (port,) = of_kind(BASE, "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")


def test_pod_serves_until_it_has_left_the_endpoints_and_then_finishes_its_requests():
    command, seconds = container(BASE)["lifecycle"]["preStop"]["exec"]["command"]
    # gunicorn waits for in-flight requests, as docs/operations.md says
    (graceful,) = re.findall(r"finishes in-flight requests \(up to (\d+) s\)", text(OPERATIONS))

    assert command == "sleep"
    assert int(seconds) >= LEAVE_ENDPOINTS
    grace = pod(BASE)["terminationGracePeriodSeconds"]
    assert grace > int(seconds) + int(graceful)


def text(page: Path) -> str:
    return " ".join(page.read_text().split())


def test_rolling_update_never_has_fewer_pods_than_before():
    update = of_kind(BASE, "Deployment")["spec"]["strategy"]["rollingUpdate"]

    assert update == {"maxSurge": 1, "maxUnavailable": 0}
    # the autoscaler sets the number, and `kubectl apply` does not reset it
    assert "replicas" not in of_kind(BASE, "Deployment")["spec"]
    assert of_kind(BASE, "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2
    assert of_kind(BASE, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", PODS)
def test_pods_meet_the_restricted_profile(name):
    spec = PODS[name]()
    (only,) = spec["containers"]

    assert spec["enableServiceLinks"] is spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert only["resources"]["limits"]["memory"]


def test_user_is_that_of_the_image():
    (user,) = set(re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))

    assert pod(BASE)["securityContext"]["runAsUser"] == int(user)


def test_limit_of_memory_fits_what_the_workers_need():
    resources = container(BASE)["resources"]
    n_workers = int(environment(BASE)["WEB_CONCURRENCY"])
    amount, unit = re.fullmatch(r"(\d+)(\w+)", resources["limits"]["memory"]).groups()

    assert f"Reserve {WORKER_MEMORY} MB per worker" in text(OPERATIONS)
    assert int(amount) * UNITS[unit] >= n_workers * WORKER_MEMORY * 1e6
    assert set(resources["requests"]) == {"cpu", "memory"}
    # a limit of CPU would throttle
    assert set(resources["limits"]) == {"memory"}


def test_network_policy_allows_requests_and_nothing_else():
    policy = of_kind(BASE, "NetworkPolicy")["spec"]

    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    assert policy["egress"] == []


def test_keys_of_the_overlay_are_read_from_the_secret():
    folder = FOLDER / "overlays" / "keys"
    (mount,) = container(folder)["volumeMounts"]
    (volume,) = pod(folder)["volumes"]
    secret = of_kind(folder, "Secret")

    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    (name,) = secret["data"]
    assert environment(folder)["DIGITS_API_KEYS"] == f"{mount['mountPath']}/{name}"
    # the shipped file is valid, and no known key has its digest
    keys = FOLDER / "components" / "keys" / name
    assert read_settings({"DIGITS_API_KEYS": str(keys)}).api_keys == ("0" * 64,)


def test_other_keys_replace_the_pods(tmp_path):
    copy = tmp_path / "deploy" / "kubernetes"
    shutil.copytree(FOLDER, copy)
    script, _ = steps("Kubernetes")["rotate keys"].split("\nkubectl")

    output_of(script.replace("OLD", "1" * 64).replace("NEW", "2" * 64), tmp_path)

    assert pod(copy / "overlays" / "keys") != pod(FOLDER / "overlays" / "keys")
    digests = (copy / "components" / "keys" / "keys.txt").read_text().split()
    assert digests == ["1" * 64, "2" * 64]


def test_weights_of_the_overlay_are_on_the_volume_or_in_the_image():
    folder = FOLDER / "overlays" / "weights"
    (mount,) = container(folder)["volumeMounts"]
    (volume,) = pod(folder)["volumes"]
    claim = of_kind(folder, "PersistentVolumeClaim")
    writer = yaml.safe_load(WRITER.read_text())["spec"]

    first, second = environment(folder)["DIGITS_WEIGHTS"].split(":")
    assert first == f"{mount['mountPath']}/digits.safetensors"
    assert second == f"/app/{EMBEDDED_WEIGHTS.relative_to(ROOT)}"
    assert mount["readOnly"] is True
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    names = {volume["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]}
    assert names == {writer["volumes"][0]["persistentVolumeClaim"]["claimName"]}


def test_monitor_selects_the_service_and_its_port():
    monitor = of_kind(FOLDER / "overlays" / "monitoring", "ServiceMonitor")["spec"]
    service = of_kind(BASE, "Service")

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["path"] == "/metrics"


def test_alert_rules_become_an_object_of_the_prometheus_operator(tmp_path):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    commands = steps("Kubernetes")["read its alerts"]
    (script,) = re.findall(r"^\{$.*?^\}", commands, re.DOTALL | re.MULTILINE)

    rule = yaml.safe_load(output_of(script, tmp_path))

    assert (rule["kind"], rule["metadata"]["name"]) == ("PrometheusRule", "digits")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())


def test_inference_service_runs_the_container_of_the_deployment():
    spec = predictor()
    (only,) = spec["containers"]
    ours = container(BASE)

    # KServe's own schema is not checked here; that of its container is
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "digits"},
        "spec": {k: v for k, v in spec.items() if "scale" not in k and "Replicas" not in k},
    }
    kubernetes_validate.validate(document, NEWEST, strict=True)
    assert only["name"] == "kserve-container"
    for field in ("image", "env", "resources", "lifecycle", "securityContext"):
        assert only[field] == ours[field], field
    assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8000}
