"""deploy/systemd under a real systemd, operated by the steps of docs/operations.md."""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator

import pytest

from service.classifier import load
from tests.conftest import ROOT, answers, curl, free_port, wait_until
from tests.seams.containers import PICTURE, Clients, docker, image_of, other_weights, output, steps

# the unit is installed from the package index
pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]
NAME = "digits-test-systemd"
STEPS = steps("systemd")
# a second address: the first is on loopback, which a container does not share
REACHABLE = """
mkdir -p /etc/systemd/system/digits.{socket,service}.d
printf '[Socket]\\nListenStream=0.0.0.0:8001\\n' > /etc/systemd/system/digits.socket.d/test.conf
printf '[Service]\\nIPAddressAllow=any\\n' > /etc/systemd/system/digits.service.d/test.conf
"""


class Machine:
    """A container with systemd, and a checkout in /opt/digits."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, script: str) -> str:
        return docker("exec", "--workdir", "/root", NAME, "bash", "-euo", "pipefail", "-c", script)

    def follow(self, step: str, *values: tuple[str, str]) -> str:
        """Run a step of the page as it stands, with its placeholders filled in."""
        script = STEPS[step]
        for name, value in values:
            script = script.replace(name, value)
        return self.run(script)


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("systemd")
    listing = output(["git", "ls-files", "--cached", "--others", "--exclude-standard"])
    with tarfile.open(folder / "tree.tar", "w") as tree:
        for name in listing.splitlines():
            tree.add(ROOT / name, name)
    image_of(
        folder,
        NAME,
        "RUN apt-get update && apt-get install --yes --no-install-recommends \\\n"
        "    systemd make git curl\n"
        "ADD tree.tar /opt/digits\n"
        # the two versions that the steps check out
        "RUN cd /opt/digits && export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.com \\\n"
        "    GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.com && git init --quiet \\\n"
        "    && git add --all && git commit --quiet --message old && git checkout -b new \\\n"
        "    && sed -i 's/__version__ = .*/__version__ = \"0.3.0\"/' service/__init__.py \\\n"
        "    && git commit --quiet --all --message new && git tag v0.3.0 && git checkout -\n"
        'STOPSIGNAL SIGRTMIN+3\nCMD ["/lib/systemd/systemd"]\n',
    )
    running = Machine()
    publish = ("--publish", f"127.0.0.1:{running.port}:8001")
    docker("run", "--detach", "--privileged", "--tmpfs", "/run", *publish, "--name", NAME, NAME)
    try:
        wait_until(lambda: "running" in running.run("systemctl is-system-running || true"))
        running.run(REACHABLE)
        running.follow("run it")
        wait_until(lambda: answers(f"{running.url}/readyz"))
        yield running
    finally:
        docker("rm", "--force", "--volumes", NAME)


def test_service_is_confined(machine):
    (pid,) = machine.run("systemctl show digits --property MainPID --value").split()
    status = machine.run(f"cat /proc/{pid}/status")
    picture = ("-F", f"image=@{PICTURE}", f"{machine.url}/predict")

    assert json.loads(curl(*picture)[2])["digit"] == 5
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\t0\b", status, re.MULTILINE)


def test_version_is_rolled_and_rolled_back_without_losing_a_request(machine):
    def version() -> str:
        return json.loads(curl(f"{machine.url}/openapi.json")[2])["info"]["version"]

    before = version()
    with Clients(machine.url).posting() as clients:
        wait_until(lambda: clients.answered >= 200)
        machine.follow("roll it")
        assert version() == "0.3.0"
        machine.follow("roll it back")
        assert version() == before
        wait_until(lambda: clients.answered >= 1_000)

    assert not clients.lost


def test_service_is_scaled_without_losing_a_request(machine):
    with Clients(machine.url).posting() as clients:
        wait_until(lambda: clients.answered >= 200)
        machine.follow("scale it")

    wait_until(lambda: "\ndigits_workers 4" in machine.follow("read its alerts"))
    assert not clients.lost


def test_killed_service_is_started_again(machine):
    machine.run("systemctl kill --signal=KILL digits")

    wait_until(lambda: answers(f"{machine.url}/readyz"))


def test_new_weights_are_loaded_without_a_restart(machine, tmp_path):
    new = other_weights(tmp_path, 0.5)
    docker("cp", str(new), f"{NAME}:/root/digits.safetensors")

    machine.follow("give it new weights")

    wait_until(lambda: json.loads(curl(f"{machine.url}/model")[2])["model"] == load(new).version)


def test_keys_are_rotated_without_a_restart(machine):
    old, new = (hashlib.sha256(key.encode()).hexdigest() for key in ("old", "new"))

    def statuses() -> list[int]:
        url = f"{machine.url}/model"
        return [curl("-H", f"X-API-Key: {key}", url)[0] for key in ("old", "new", "none")]

    machine.follow("require keys", ("OLD", old))
    wait_until(lambda: statuses() == [200, 401, 401])
    machine.follow("rotate keys", ("OLD", old), ("NEW", new))
    wait_until(lambda: statuses() == [200, 200, 401])
    machine.follow("rotate keys", ("OLD NEW", new))
    wait_until(lambda: statuses() == [401, 200, 401])
