"""The container of the Kubernetes Deployment, run by Docker with its settings and limits."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.conftest import answers, encode, free_port, wait_until
from tests.seams.containers import PICTURE, docker
from tests.seams.test_kubernetes import BASE, LEAVE_ENDPOINTS, container, pod

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl"),
]
NAME = "digits-test-pod"


def flags(port: int) -> list[str]:
    """Translate the fields of the pod and its container into flags of `docker run`."""
    ours, user = container(BASE), pod(BASE)["securityContext"]
    security = ours["securityContext"]
    flags = [
        *("--user", f"{user['runAsUser']}:{user['runAsGroup']}"),
        *(f"--cap-drop={name}" for name in security["capabilities"]["drop"]),
        f"--read-only={json.dumps(security['readOnlyRootFilesystem'])}",
        f"--memory={ours['resources']['limits']['memory'].removesuffix('i').lower()}",
        *(f"--env={variable['name']}={variable['value']}" for variable in ours["env"]),
        f"--publish=127.0.0.1:{port}:{ours['ports'][0]['containerPort']}",
    ]
    if not security["allowPrivilegeEscalation"]:
        flags.append("--security-opt=no-new-privileges:true")
    return flags


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    docker("build", "--quiet", "--target", "service", "--tag", "digits-service", ".")
    port = free_port()
    docker("run", "--detach", "--name", NAME, *flags(port), "digits-service")
    try:
        probe = container(BASE)["startupProbe"]
        path = f"http://127.0.0.1:{port}{probe['httpGet']['path']}"
        wait_until(lambda: answers(path), probe["periodSeconds"] * probe["failureThreshold"])
        yield f"http://127.0.0.1:{port}"
    finally:
        docker("rm", "--force", NAME)


def post(url: str, body: bytes) -> int:
    request = urllib.request.Request(
        f"{url}/predict", data=body, headers={"Content-Type": "image/png"}
    )
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_probes_succeed(url):
    for name in ("startup", "readiness", "liveness"):
        assert answers(url + container(BASE)[f"{name}Probe"]["httpGet"]["path"]), name
    assert post(url, PICTURE.read_bytes()) == 200


def test_limit_of_memory_holds_while_workers_read_the_largest_pictures(url):
    # as many pixels, bytes per pixel and channels as are accepted
    largest = encode(Image.linear_gradient("L").resize((5_000, 5_000)).convert("RGBA"))

    with ThreadPoolExecutor(4) as clients:
        statuses = set(clients.map(post, [url] * 8, [largest] * 8))

    assert statuses <= {200, 422, 503}
    assert not json.loads(docker("inspect", NAME))[0]["State"]["OOMKilled"]
    # gunicorn logs a worker that the kernel has killed
    assert '"error"' not in docker("logs", NAME)


def test_command_before_the_stop_is_in_the_image_and_waits(url):
    command = container(BASE)["lifecycle"]["preStop"]["exec"]["command"]

    start = time.monotonic()
    docker("exec", NAME, *command)

    assert time.monotonic() - start >= LEAVE_ENDPOINTS
