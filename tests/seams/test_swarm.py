"""deploy/stack.yml in a real Swarm, operated by the steps of docs/operations.md."""

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.classifier import load
from tests.conftest import ROOT, answers, curl, free_port, wait_until
from tests.seams.containers import (
    N_CLIENTS,
    PICTURE,
    Clients,
    docker,
    image_of,
    other_weights,
    output,
    prometheus_image,
    pulled,
    steps,
)

# a rolling update waits for the health of three replicas, one after the other
pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]
STEPS = steps("Swarm")
REPLICAS, SERVICE = 3, "digits_service"
NEW_IMAGE = "digits-service:0.3.0"  # that of the steps
RELOAD = 3.0  # seconds in which all replicas load new weights


def ids(name: str) -> list[str]:
    return docker("ps", "--quiet", "--filter", f"name={name}").split()


def inspect(*names: str) -> list[dict]:
    return json.loads(docker("inspect", *names))


def slots() -> set[str]:
    """Return the numbers of the replicas that Swarm knows, those that it removes included."""
    names = docker("service", "ps", "--format", "{{.Name}}", SERVICE).split()
    return {name.removeprefix(f"{SERVICE}.") for name in names}


def n_running() -> int:
    """Return the number of replicas that are healthy."""
    found = docker("ps", "--quiet", "--filter", f"name={SERVICE}", "--filter", "health=healthy")
    return len(found.split())


class Stack:
    """The stack `digits`, and a folder from which its steps are followed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, str(free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self.images: dict[str, str] = {}

    def follow(self, step: str, *values: tuple[str, str]) -> str:
        """Run a step of the page as it stands, with its placeholders filled in."""
        script = STEPS[step].replace("deploy/", f"{ROOT}/deploy/")
        for name, value in values:
            script = script.replace(name, value)
        script = f"cd {self.folder}\n{script}"
        settings = {"PORT": self.port, **self.images}
        return output(["bash", "-euo", "pipefail", "-c", script], **settings)


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """Deploy the stack in a Swarm of this node alone."""
    is_ours = docker("info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "inactive"
    if is_ours:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    assert "digits" not in docker("stack", "ls", "--format", "{{.Name}}").split()
    running = Stack(tmp_path_factory.mktemp("stack"))
    try:
        # the two images differ in their labels
        docker("build", "--quiet", "--target", "service", "--tag", "digits-service", ".")
        new = ("--build-arg", "VERSION=0.3.0", "--tag", NEW_IMAGE)
        docker("build", "--quiet", "--target", "service", *new, ".")
        named = dict(
            re.findall(r"\$\{(\w+)_IMAGE:-([^}]+)\}", (ROOT / "deploy" / "stack.yml").read_text())
        )
        running.images = {
            "HAPROXY_IMAGE": haproxy_image(tmp_path_factory.mktemp("haproxy"), named["HAPROXY"]),
            "PROMETHEUS_IMAGE": prometheus_image(
                tmp_path_factory.mktemp("prometheus"), named["PROMETHEUS"]
            ),
        }
        running.follow("run it")
        wait_until(lambda: n_running() == REPLICAS, 300)
        wait_until(lambda: answers(f"{running.url}/readyz"))
        yield running
    finally:
        docker("stack", "rm", "digits")
        wait_until(lambda: not ids("digits_"), 120)
        volumes = "docker volume ls --quiet --filter name=digits_ | xargs -r docker volume rm"
        wait_until(lambda: not subprocess.run(volumes, shell=True, capture_output=True).returncode)
        if is_ours:
            docker("swarm", "leave", "--force")


def haproxy_image(folder: Path, named: str) -> str:
    """Return the image that is named, or one of Debian's package if it cannot be pulled."""
    if pulled(named):
        return named
    return image_of(
        folder,
        "digits-test-haproxy",
        "RUN apt-get update && apt-get install --yes --no-install-recommends haproxy\n"
        "USER nobody\n"
        'CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]\n',
    )


def updated() -> None:
    """Wait until the update of the service has ended, and assert that it succeeded."""

    def status() -> str:
        return inspect(SERVICE)[0]["UpdateStatus"]["State"]

    wait_until(lambda: status() not in ("updating", "rollback_started"), 600)
    assert status() in ("completed", "rollback_completed")


def images() -> set[str]:
    return {container["Config"]["Image"].split("@")[0] for container in inspect(*ids(SERVICE))}


def test_rolling_update_and_rollback_lose_no_request(stack):
    with Clients(stack.url).posting() as clients:
        stack.follow("roll it")
        updated()
        assert images() == {NEW_IMAGE}
        n_updated = clients.answered
        stack.follow("roll it back")
        updated()
        assert images() == {"digits-service:latest"}
        wait_until(lambda: clients.answered >= 5_000, 600)

    print(f"{n_updated} requests during the update, {clients.answered} with the rollback")
    assert not clients.lost


def test_killed_replica_loses_at_most_what_it_held(stack):
    with Clients(stack.url).posting() as clients:
        wait_until(lambda: clients.answered >= 200)
        (victim, *_) = ids(SERVICE)
        docker("kill", "--signal", "KILL", victim)
        n = clients.answered
        wait_until(lambda: clients.answered >= n + 1_000, 300)
        wait_until(lambda: victim not in ids(SERVICE) and n_running() == REPLICAS, 300)

    print(f"{len(clients.lost)} of {clients.answered} lost: {clients.lost}")
    assert len(clients.lost) <= N_CLIENTS


def models_of(replica: str) -> set[str]:
    """Ask both workers of a replica which model they serve."""
    script = (
        "import json, urllib.request as u;"
        "print(*(json.load(u.urlopen('http://127.0.0.1:8000/model'))['model'] for _ in range(20)))"
    )
    return set(docker("exec", replica, "python3", "-c", script).split())


def test_new_weights_reach_all_replicas_and_no_reply_mixes_two(stack):
    new = load(other_weights(stack.folder, 0.5)).version
    with Clients(stack.url).posting() as clients:
        wait_until(lambda: clients.answered >= 200)
        stack.follow("give it new weights")
        time.sleep(RELOAD)
        n_replies = dict(clients.replies)
        wait_until(lambda: clients.replies[new] >= n_replies[new] + 500, 300)
        assert [models_of(replica) for replica in ids(SERVICE)] == [{new}] * REPLICAS

    assert not clients.lost
    (old,) = set(clients.replies) - {new}
    # one request of each client may have begun before
    assert clients.replies[old] - n_replies[old] <= N_CLIENTS
    assert len(clients.numbers) == 4  # two models, two pictures
    assert all(len(numbers) == 1 for numbers in clients.numbers.values())


def test_stack_is_scaled_without_losing_a_request(stack):
    with Clients(stack.url).posting() as clients:
        stack.follow("scale it")
        wait_until(lambda: n_running() == 5, 300)
        docker("service", "scale", f"{SERVICE}={REPLICAS}")
        # `docker service logs` fails while Swarm removes a replica
        wait_until(lambda: slots() == {"1", "2", "3"} and n_running() == REPLICAS, 300)

    assert not clients.lost


def test_prometheus_reports_the_alerts_of_every_replica(stack):
    def up() -> str:
        query = ["promtool", "query", "instant", "http://localhost:9090", "sum(up)"]
        return docker("exec", *ids("digits_prometheus"), *query)

    wait_until(lambda: f"=> {REPLICAS} @" in up(), 120)
    assert "DigitsDown" not in stack.follow("read its alerts")


def test_proxy_hides_the_metrics_and_passes_on_the_clients_address(stack):
    assert curl(f"{stack.url}/metrics")[0] == 404
    assert curl("-H", "X-Forwarded-Prefix: /evil", f"{stack.url}/docs")[0] == 200
    document = curl("-H", "X-Forwarded-Prefix: /evil", f"{stack.url}/openapi.json")[2]
    assert json.loads(document)["servers"] == [{"url": "/"}]


def test_containers_of_the_stack_have_limits_and_a_read_only_system(stack):
    for container in inspect(*ids("digits_")):
        assert container["HostConfig"]["ReadonlyRootfs"], container["Name"]
        assert container["HostConfig"]["Memory"] > 0, container["Name"]
        assert container["Config"]["User"] not in ("", "root", "0"), container["Name"]


def status_with(stack: Stack) -> Callable[[str], int]:
    picture = ("-F", f"image=@{PICTURE}", f"{stack.url}/predict")
    return lambda key: curl("-H", f"X-API-Key: {key}", *picture)[0]


def test_keys_are_rotated_without_an_outage(stack):
    old, new = (hashlib.sha256(key.encode()).hexdigest() for key in ("old", "new"))
    status = status_with(stack)

    stack.follow("rotate keys", ("OLD NEW", old))
    updated()
    assert (status("old"), status("new"), status("none")) == (200, 401, 401)
    stack.follow("rotate keys", ("OLD", old), ("NEW", new))
    updated()
    assert (status("old"), status("new"), status("none")) == (200, 200, 401)
    stack.follow("rotate keys", ("OLD NEW", new))
    updated()
    assert (status("old"), status("new")) == (401, 200)
