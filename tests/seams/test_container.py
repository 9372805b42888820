"""The container images and the compose stack: build, run, monitor, train, stop.

`make docker-test` runs these tests. BASE names another base image where the engine has
none under the usual name. Where the image of Prometheus cannot be pulled, one is built
from the program on this machine.
"""

import hashlib
import json
import os
import re
import urllib.request
from collections.abc import Iterator

import pytest

from service.classifier import load
from tests.conftest import ROOT, answers, curl, free_port, wait_until
from tests.seams.containers import PICTURE, docker, other_weights, output, prometheus_image, steps

# the first test builds the images
pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]
PROJECT = "digits-test"
(PROMETHEUS,) = re.findall(
    r"PROMETHEUS_IMAGE:-([^}]+)", (ROOT / "docker-compose.monitoring.yml").read_text()
)
FILES = [
    argument
    for name in ("", ".training", ".monitoring")
    for argument in ("--file", f"docker-compose{name}.yml")
]


class Stack:
    """A compose project with a name and ports of its own."""

    def __init__(self) -> None:
        self.port, self.prometheus_port = str(free_port()), str(free_port())
        self.images: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> str:
        return docker(
            *("compose", "--project-name", PROJECT, *FILES, *arguments),
            PORT=self.port,
            PROMETHEUS_PORT=self.prometheus_port,
            **self.images,
        )

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:
            return json.load(reply)

    def predict(self) -> dict:
        request = urllib.request.Request(
            f"{self.url}/predict", data=PICTURE.read_bytes(), headers={"Content-Type": "image/png"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def container(self) -> dict:
        identity = self.compose("ps", "--all", "--quiet", "service").strip()
        return json.loads(docker("inspect", identity))[0]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    running = Stack()
    running.compose("build", "service", "training")
    try:
        running.compose("up", "--detach", "service")
        wait_until(lambda: answers(f"{running.url}/readyz"), 60)
        yield running
    finally:
        running.compose("down", "--volumes")


def test_stack_serves_the_embedded_weights(stack):
    reply = stack.predict()

    assert reply["digit"] == 5
    assert stack.get("/model")["training"]["data"] == "MNIST"


def test_container_becomes_healthy(stack):
    wait_until(lambda: stack.container()["State"]["Health"]["Status"] == "healthy", 60)


def test_service_image_holds_the_service_and_no_torch():
    listing = docker(
        *("run", "--rm", "--entrypoint", "python3", "digits-service", "-c"),
        "import os, sys; print(*os.listdir('/app'), *os.listdir(sys.path[-1]))",
    ).split()

    assert listing[0] == "service"
    assert not {"torch", "training", "tests", "pip"} & set(listing)
    assert {"flask", "numpy"} <= set(listing)


def test_service_runs_without_privileges_on_a_read_only_system(stack):
    container = stack.container()
    host = container["HostConfig"]

    assert container["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    script = "open('/app/service/x', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.compose("exec", "-T", "service", "python3", "-c", script)


def test_prometheus_of_the_stack_scrapes_the_service(stack, tmp_path):
    stack.images["PROMETHEUS_IMAGE"] = prometheus_image(tmp_path, PROMETHEUS)
    stack.compose("up", "--detach", "service", "prometheus")
    api = f"http://127.0.0.1:{stack.prometheus_port}/api/v1"

    def is_watched() -> bool:
        if not answers(f"{api}/targets"):
            return False
        with urllib.request.urlopen(f"{api}/targets", timeout=10) as reply:
            targets = json.load(reply)["data"]["activeTargets"]
        return [target["health"] for target in targets] == ["up"]

    wait_until(is_watched, 60)
    with urllib.request.urlopen(f"{api}/rules", timeout=10) as reply:
        (group,) = json.load(reply)["data"]["groups"]
    assert len(group["rules"]) >= 5


def test_training_into_the_volume_changes_the_model_without_a_restart(stack):
    before = stack.get("/model")
    # the first rows of MNIST, or synthetic digits where it is missing
    source = ["--rows", "5000"] if "DIGITS_MNIST" in os.environ else ["--data", "synthetic"]

    out = stack.compose("run", "--rm", "training", *source, "--epochs", "2")

    assert "validation accuracy" in out
    trained = re.search(r"\(([0-9a-f]{12})\)", out)
    assert trained
    assert trained[1] != before["model"]
    # each worker checks the file for itself, at most once a second
    for ask in (lambda: stack.get("/model"), stack.predict):
        wait_until(lambda ask=ask: {ask()["model"] for _ in range(20)} == {trained[1]})


def test_service_exits_with_status_0_when_it_is_stopped(stack):
    stack.compose("stop", "service")

    state = stack.container()["State"]
    assert state["ExitCode"] == 0
    assert not state["OOMKilled"]


def test_steps_for_a_person_on_call_work_as_they_stand(tmp_path):
    script = steps("Compose")
    port, prometheus = str(free_port()), str(free_port())
    url = f"http://127.0.0.1:{port}"
    new = other_weights(tmp_path, 0.5)
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in ("old", "new")]
    settings = {
        "COMPOSE_PROJECT_NAME": "digits",
        "PORT": port,
        "PROMETHEUS_PORT": prometheus,
        "PROMETHEUS_IMAGE": prometheus_image(tmp_path, PROMETHEUS),
    }

    def follow(step: str) -> str:
        text = script[step].replace("OLD NEW", " ".join(digests))
        text = text.replace("< digits.safetensors", f"< {new}")
        out = output(["bash", "-euo", "pipefail", "-c", text], **settings)
        wait_until(lambda: answers(f"{url}/readyz"))
        return out

    def version() -> str:
        identity = docker("compose", "ps", "--quiet", "service", **settings).strip()
        labels = json.loads(docker("inspect", identity))[0]["Config"]["Labels"]
        return labels["org.opencontainers.image.version"]

    try:
        follow("run it")
        docker(
            "build", "--quiet", "--build-arg", "VERSION=0.3.0", "-t", "digits-service:0.3.0", "."
        )
        before = version()
        follow("scale it")
        wait_until(lambda: "\ndigits_workers 4" in curl(f"{url}/metrics")[2])
        follow("roll it")
        assert version() == "0.3.0" != before
        follow("roll it back")
        assert version() == before
        follow("give it new weights")
        wait_until(lambda: load(new).version in curl(f"{url}/model")[2])
        follow("rotate keys")
        wait_until(lambda: curl("-H", "X-API-Key: x", f"{url}/model")[0] == 401)
        assert curl("-H", "X-API-Key: old", f"{url}/model")[0] == 200
        assert "DigitsDown" not in follow("read its alerts")
    finally:
        docker("compose", *FILES, "down", "--volumes", **settings)
