"""Requests from pages of other origins."""

import io
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from benchmarks.browser import chromium
from service.app import create_app
from service.settings import InvalidSetting, read_settings
from tests.conftest import ROOT, encode, running_service

ALLOWED, OTHER = "https://app.example.org", "https://evil.example"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-api-key,content-type",
}


def client_of(classifier, origins: str, is_fast: bool = True):
    app = create_app(classifier, read_settings({"DIGITS_ALLOWED_ORIGINS": origins}))
    if not is_fast:
        app.wsgi_app = app.wsgi_app.application
    return app.test_client()


@pytest.fixture(scope="module")
def form(drawn) -> bytes:
    return encode(drawn.test.images[0])


def post(client, png: bytes, **headers: str):
    return client.post("/predict", data={"image": (io.BytesIO(png), "x.png")}, headers=headers)


def test_pages_of_other_sites_cannot_post_by_default(client, form):
    for path in ("/predict", "/v2/models/digits/infer"):
        for origin in ({"Origin": OTHER}, {"Origin": "null"}, {}):
            reply = client.post(path, data=form, headers={**CROSS_SITE, **origin})
            assert reply.status_code == 403
            assert reply.mimetype == "application/problem+json"
            # "null" and the lack of an origin cannot be allowed alone
            ending = "set DIGITS_ALLOWED_ORIGINS to *"
            if origin.get("Origin") == OTHER:
                ending = (
                    f"from {OTHER!r}; the operator may add this origin to DIGITS_ALLOWED_ORIGINS"
                )
            assert reply.json["detail"].endswith(ending)
            assert "Access-Control-Allow-Origin" not in reply.headers
    assert post(client, form, **CROSS_SITE).status_code == 403
    assert client.options("/predict", headers={"Origin": OTHER, **PREFLIGHT}).status_code == 405


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
def test_own_page_and_clients_without_a_browser_can_post_by_default(client, form, site):
    headers = {"Sec-Fetch-Site": site, "Origin": "http://localhost"}

    assert post(client, form, **headers).status_code == 200
    assert post(client, form).status_code == 200
    assert client.get("/model", headers=CROSS_SITE).status_code == 200


@pytest.fixture(scope="module")
def lan_service() -> Iterator[str]:
    """The address of a service that allows one origin and trusts a proxy on loopback."""
    with running_service(DIGITS_ALLOWED_ORIGINS=ALLOWED) as service:
        yield service.url


def status_of(url: str, path: str, png: bytes, *headers: str) -> int:
    """Post a picture with these headers only; return the status."""
    head = [f"POST {path} HTTP/1.1", f"Content-Length: {len(png)}", "Connection: close", *headers]
    content = "\r\n".join([*head, "", ""]).encode() + png
    return int(exchange(url, content).split(" ", 2)[1])


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        (["Host: lan:8000"], True),  # a script
        (["Host: lan:8000", "Origin: http://lan:8000"], True),
        (["Host: LAN", "Origin: http://lan"], True),
        (["Host: lan:80", "Origin: http://lan"], True),
        (["Host: [fd00::1]:8000", "Origin: http://[fd00::1]:8000"], True),
        (["Host: lan", "Origin: https://lan"], True),  # of a proxy that terminates TLS
        (["Host: lan:443", "Origin: https://lan"], True),
        (["Host: lan:8000", f"Origin: {ALLOWED}"], True),
        (["Host: lan:8000", "Origin: http://x", "Sec-Fetch-Site: same-site"], True),
        (["Host: lan:8000", "Origin: http://lan:3000"], False),
        (["Host: lan:8000", "Origin: http://lan"], False),
        (["Host: lan:8000", f"Origin: {OTHER}"], False),
        (["Host: lan", "Origin: http://lan.evil.example"], False),
        (["Host: lan", "Origin: null"], False),  # of a sandboxed frame, or without a referrer
        (["Host: lan", "Origin: http://lan", f"Origin: {OTHER}"], False),
        (["Host: lan", f"Origin: {OTHER}", "Sec-Fetch-Site: "], False),
        (["Host: inner:1", "X-Forwarded-Host: lan", "Origin: http://lan"], True),
        (["Host: inner:1", "X-Forwarded-Host: lan, inner", "Origin: http://lan"], True),
        (["Host: inner:1", "X-Forwarded-Host: lan", f"Origin: {OTHER}"], False),
        (["Host: lan", "X-Forwarded-Proto: https", "Origin: https://lan"], True),
        (["Host: lan", "X-Forwarded-Proto: https", "Origin: http://lan"], False),
    ],
)
def test_without_sec_fetch_site_the_origin_is_compared_with_the_host(
    headers, is_own, form, lan_service
):
    for path, status in {"/predict": 200, "/v2/models/digits/infer": 400, "/feedback": 404}.items():
        assert status_of(lan_service, path, form, *headers) == (status if is_own else 403)


def test_forwarded_host_of_a_stranger_is_ignored(form):
    headers = ["Host: inner", "X-Forwarded-Host: lan", "Origin: http://lan"]
    with running_service(FORWARDED_ALLOW_IPS="192.0.2.1") as service:
        assert status_of(service.url, "/predict", form, *headers) == 403
        assert status_of(service.url, "/predict", form, *headers[:2]) == 200


@pytest.mark.parametrize("is_fast", [True, False])
def test_page_of_an_allowed_origin_can_post_and_read_the_reply(classifier, form, is_fast):
    client = client_of(classifier, f"http://localhost:3000 {ALLOWED}", is_fast)

    reply = post(client, form, Origin=ALLOWED, **CROSS_SITE)
    refused = client.post("/predict", data=b"x", headers={"Origin": ALLOWED})

    assert (reply.status_code, refused.status_code) == (200, 415)
    for each in (reply, refused, client.get("/model", headers={"Origin": ALLOWED})):
        assert each.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert "X-Request-ID" in each.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in each.headers
        assert each.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{ALLOWED}.evil.example", "http://app.example.org"]
)
def test_other_origins_stay_refused(classifier, form, origin):
    client = client_of(classifier, ALLOWED)

    assert post(client, form, Origin=origin, **CROSS_SITE).status_code == 403
    preflight = client.options("/predict", headers={"Origin": origin, **PREFLIGHT})
    for reply in (preflight, client.get("/model", headers={"Origin": origin})):
        assert "Access-Control-Allow-Origin" not in reply.headers
        assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("is_fast", [True, False])
def test_replies_vary_by_origin_also_without_one(classifier, form, is_fast):
    client = client_of(classifier, ALLOWED, is_fast)

    assert post(client, form).headers.getlist("Vary") == ["Origin"]
    assert client.get("/").headers.getlist("Vary") == ["Origin"]
    assert "Vary" not in client_of(classifier, "", is_fast).get("/").headers


@pytest.mark.parametrize(
    ("path", "method"),
    [("/predict", "POST"), ("/v2/models/digits/infer", "POST"), ("/model", "GET, HEAD")],
)
def test_preflight_names_methods_and_headers(classifier, path, method):
    client = client_of(classifier, ALLOWED)

    reply = client.options(path, headers={"Origin": ALLOWED, **PREFLIGHT})

    assert (reply.status_code, reply.data) == (204, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert reply.headers["Access-Control-Allow-Methods"] == method
    allowed = reply.headers["Access-Control-Allow-Headers"].lower()
    for name in ("x-api-key", "content-type", "authorization", "inference-header-content-length"):
        assert name in allowed
    assert client.options("/nowhere", headers={"Origin": ALLOWED, **PREFLIGHT}).status_code == 404
    assert client.options("/predict", headers={"Origin": ALLOWED}).status_code == 405
    assert client.put(path, headers={"Origin": ALLOWED, **PREFLIGHT}).status_code == 405


def test_preflight_needs_no_key_and_the_post_does(classifier, form):
    digest = "0" * 64
    settings = read_settings({"DIGITS_ALLOWED_ORIGINS": ALLOWED, "DIGITS_API_KEYS": digest})
    client = create_app(classifier, settings).test_client()

    assert client.options("/predict", headers={"Origin": ALLOWED, **PREFLIGHT}).status_code == 204
    reply = post(client, form, Origin=ALLOWED)
    assert reply.status_code == 401
    assert reply.headers["Access-Control-Allow-Origin"] == ALLOWED


def test_any_origin_is_allowed_by_a_star(classifier, form):
    client = client_of(classifier, "*")

    for origin in (OTHER, "null"):
        reply = post(client, form, Origin=origin, **CROSS_SITE)
        assert reply.status_code == 200
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in reply.headers


@pytest.mark.parametrize(
    ("setting", "origins"),
    [
        ("", ()),
        ("https://a.example, http://b:8080", ("https://a.example", "http://b:8080")),
        ("HTTPS://A.example:443 http://b:80", ("https://a.example", "http://b")),
        ("http://[::1]:3000\n*", ("http://[::1]:3000", "*")),
        ("chrome-extension://abcdef", ("chrome-extension://abcdef",)),
    ],
)
def test_origins_are_read_as_browsers_write_them(setting, origins):
    assert read_settings({"DIGITS_ALLOWED_ORIGINS": setting}).allowed_origins == origins


@pytest.mark.parametrize(
    "setting",
    ["a.example", "https://a.example/", "https://*.example", "null", "https://", "http://a:b"],
)
def test_what_is_no_origin_aborts_startup(setting):
    with pytest.raises(InvalidSetting, match="DIGITS_ALLOWED_ORIGINS has") as caught:
        read_settings({"DIGITS_ALLOWED_ORIGINS": setting})

    assert setting in str(caught.value)


FETCH = """async ([url, key]) => {
  const picture = await (await fetch("digit.png")).blob();
  const form = new FormData();
  form.append("image", picture, "digit.png");
  const headers = key ? { "X-API-Key": key } : {};
  try {
    const reply = await fetch(url, { method: "POST", body: form, headers });
    return [reply.status, (await reply.json()).digit, reply.headers.get("X-Request-ID")];
  } catch (error) {
    return [error.name];
  }
}"""

OWN = "async (url) => (await fetch(url, { method: 'POST', body: 'x' })).status"


@pytest.fixture
def other_site(tmp_path: Path) -> Iterator[str]:
    """Serve a picture on localhost, which is another site than 127.0.0.1."""
    (tmp_path / "digit.png").write_bytes((ROOT / "docs" / "digit.png").read_bytes())
    (tmp_path / "index.html").write_text("<!doctype html><link rel=icon href=data:,>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def test_page_of_an_allowed_origin_can_read_the_errors_of_the_server():
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999"
    with running_service(DIGITS_ALLOWED_ORIGINS=ALLOWED) as service:
        replies = {
            origin: exchange(service.url, f"{head}\r\nOrigin: {origin}\r\n\r\n".encode())
            for origin in (ALLOWED, OTHER)
        }

    for origin, reply in replies.items():
        lines = reply.split("\r\n")
        assert lines[0].startswith("HTTP/1.1 413 ")
        assert lines.count("Vary: Origin") == 1
        assert (f"Access-Control-Allow-Origin: {origin}" in lines) == (origin == ALLOWED)


def exchange(url: str, request: bytes) -> str:
    """Send a request; return all that the server sends until it closes."""
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(partial(client.recv, 2**16), b"")).decode()


@pytest.mark.skipif(not chromium(), reason="needs chromium in the path")
def test_browser_lets_only_pages_of_allowed_origins_use_the_service(other_site):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        for origins, expected in (("", None), (other_site, 5), ("*", 5)):
            with running_service(DIGITS_ALLOWED_ORIGINS=origins) as service:
                page = browser.new_page()
                page.goto(other_site)
                # with a header, the browser sends a preflight
                url = f"{service.url}/predict"
                replies = [page.evaluate(FETCH, [url, key]) for key in ("", "any")]
                metrics = urllib.request.urlopen(f"{service.url}/metrics").read().decode()
                page.close()
            if expected is None:
                assert replies == [["TypeError"]] * 2
                assert 'digits_pictures_total{outcome="read"} 0.0' in metrics
            else:
                assert [found[:2] for found in replies] == [[200, expected]] * 2
                assert all(found[2] for found in replies)
        browser.close()


@pytest.mark.skipif(not chromium(), reason="needs chromium in the path")
def test_browser_lets_no_page_of_another_site_use_a_service_without_tls(other_site):
    # names that are not loopback to the browser, which then sends no Sec-Fetch-Site
    browser_of = chromium()
    browser_of["args"] = [*browser_of["args"], "--host-resolver-rules=MAP *.lan 127.0.0.1"]
    site = other_site.replace("localhost", "page.lan")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**browser_of)
        for origins, outcome in (("", None), (site, 5)):
            with running_service(DIGITS_ALLOWED_ORIGINS=origins) as service:
                own = service.url.replace("127.0.0.1", "digits.lan")
                page = browser.new_page()
                seen = []
                page.on("request", lambda each, seen=seen: seen.append(each.all_headers()))
                page.goto(site)
                found = page.evaluate(FETCH, [f"{own}/predict", ""])
                metrics = urllib.request.urlopen(f"{service.url}/metrics").read().decode()
                page.goto(f"{own}/")
                same = page.evaluate(OWN, f"{own}/predict")
                page.close()
            assert all("sec-fetch-site" not in headers for headers in seen)
            assert found == ["TypeError"] if outcome is None else found[:2] == [200, outcome]
            assert same == 415
            read = 'digits_pictures_total{outcome="read"}'
            assert f"{read} {0 if outcome is None else 1}.0" in metrics
        browser.close()
