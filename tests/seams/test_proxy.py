"""The service behind nginx and Caddy, as deploy/proxy configures them."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from benchmarks.browser import chromium, draw
from tests.conftest import PATIENCE, ROOT, answers, curl, free_port, start_service, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
UPSTREAM = "http://127.0.0.1:8000"
NGINX, CADDY = ((ROOT / "deploy/proxy" / name).read_text() for name in ("nginx.conf", "Caddyfile"))
STRIPPED = """
location /stripped/ {
    set $prefix /stripped;
    proxy_pass http://127.0.0.1:8000/;
}
"""


@contextmanager
def nginx(folder: Path, locations: str) -> Iterator[str]:
    """Run nginx with these locations; return its URL."""
    port = free_port()
    temporary = " ".join(
        f"{name}_temp_path {folder / name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; {locations} }} }}"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")])
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/livez"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@contextmanager
def caddy(folder: Path, config: str) -> Iterator[str]:
    """Run Caddy with this configuration; return its URL."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    (folder / "Caddyfile").write_text(
        "{\nadmin off\n}\n" + config.replace("example.com {", f"{address} {{")
    )
    process = subprocess.Popen(
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")],
        env=os.environ | {"HOME": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(f"{address}/livez"))
        yield address
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@contextmanager
def service(**settings: str) -> Iterator[list[dict]]:
    """Run the service; return its log lines after the block."""
    process = start_service(WEB_CONCURRENCY="1", DIGITS_ACCESS_LOG="no-probes", **settings)
    lines: list[dict] = []
    try:
        yield lines
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)
        lines += map(json.loads, out.splitlines())


@pytest.mark.parametrize("kind", ["TCP", "Unix"])
def test_client_of_the_log_is_the_one_that_nginx_saw(kind, tmp_path):
    port, path = free_port(), tmp_path / "digits.sock"
    where = f"http://unix:{path}:" if kind == "Unix" else f"http://127.0.0.1:{port}"
    bind = f"--bind unix:{path}" if kind == "Unix" else ""
    with (
        service(GUNICORN_CMD_ARGS=bind, PORT=str(port)) as log,
        nginx(tmp_path, NGINX.replace(UPSTREAM, where)) as url,
    ):
        # what a client claims of itself precedes the address that nginx adds
        spoofed = ("-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Forwarded-Prefix: /evil")
        assert curl(*spoofed, "-F", f"image=@{ROOT / 'docs/digit.png'}", f"{url}/predict")[0] == 200
        assert curl("-H", "X-Forwarded-For: 203.0.113.9", f"{url}/nowhere")[0] == 404
        assert json.loads(curl(*spoofed, f"{url}/openapi.json")[2])["servers"] == [{"url": "/"}]

    # nginx is a trusted proxy, and so is its client on the same machine
    clients = [line["client"] for line in log if "status" in line]
    assert clients == ["203.0.113.9"] * 3


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run the service and the proxies in front of it; return their URLs."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(service(PORT=str(port)))
        locations = (NGINX + STRIPPED).replace("127.0.0.1:8000", address)
        urls = {"nginx": stack.enter_context(nginx(tmp_path_factory.mktemp("nginx"), locations))}
        if shutil.which("caddy"):
            config = CADDY.replace("127.0.0.1:8000", address)
            urls["Caddy"] = stack.enter_context(caddy(tmp_path_factory.mktemp("caddy"), config))
        yield urls


def url_of(proxied: dict[str, str], proxy: str) -> str:
    if proxy not in proxied:
        pytest.skip(f"needs {proxy}")
    return proxied[proxy]


@pytest.mark.parametrize(
    ("proxy", "prefix"),
    [
        ("nginx", ""),
        ("nginx", "/digits"),
        ("nginx", "/stripped"),
        ("Caddy", ""),
        ("Caddy", "/digits"),
    ],
)
def test_every_route_works_behind_a_proxy(proxied, proxy, prefix):
    url = url_of(proxied, proxy) + prefix
    for path in ("", "docs", "page.js", "style.css", "livez", "readyz", "model"):
        assert curl(f"{url}/{path}")[0] == 200, path
    # what a client claims does not count
    document = json.loads(curl("-H", "X-Forwarded-Prefix: /evil", f"{url}/openapi.json")[2])
    assert document["servers"] == [{"url": prefix or "/"}]
    picture = ("-F", f"image=@{ROOT / 'docs/digit.png'}")
    assert json.loads(curl(*picture, f"{url}/predict")[2])["digit"] == 5


@pytest.mark.parametrize("proxy", ["nginx", "Caddy"])
def test_proxy_hides_the_metrics_and_limits_the_body(proxied, proxy, tmp_path):
    url = url_of(proxied, proxy)
    (tmp_path / "large").write_bytes(bytes(17 * 2**20))

    for path in ("/metrics", "/digits/metrics"):
        assert curl(f"{url}{path}")[0] == 404, path
    assert curl("--data-binary", f"@{tmp_path / 'large'}", f"{url}/predict")[0] == 413


@pytest.mark.skipif(not chromium(), reason="needs chromium in the path")
@pytest.mark.parametrize("path", ["/digits", "/digits/", "/stripped/"])
def test_page_works_in_a_browser_under_a_prefix(proxied, path):
    url = proxied["nginx"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        page = browser.new_page()
        failed: list[str] = []
        # half a digit may be refused, with status 422
        page.on(
            "response",
            lambda reply: reply.status < 400 or reply.status == 422 or failed.append(reply.url),
        )
        page.goto(f"{url}{path}")
        draw(page, [[(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)]])
        expect(page.locator("#digit")).to_have_text("7")
        folder = f"{url}{path.rstrip('/')}/"
        expect(page.locator("#command")).to_contain_text(f"{folder}predict")
        page.get_by_role("link", name="API reference").click()
        assert page.url == f"{folder}docs"
        page.get_by_role("link", name="openapi.json", exact=True).click()
        assert page.url == f"{folder}openapi.json"
        browser.close()

    assert failed == []
