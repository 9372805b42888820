"""The pages: their files, caching, content security policy and the API reference."""

import re

import pytest

from service.settings import DEFAULT_LIMITS
from service.web.openapi import describe
from service.web.ui import FOLDER, STATIC

FILES = {
    "/": "text/html",
    "/docs": "text/html",
    "/page.js": "text/javascript",
    "/style.css": "text/css",
}


def test_every_static_file_is_served(client):
    paths = list(STATIC.iterdir())

    assert paths
    for path in paths:
        assert client.get(f"/{path.name}").data == path.read_bytes()


def test_no_other_file_of_the_package_is_reachable(client):
    inside = [path for path in FOLDER.rglob("*") if path.is_file()]
    files = {str(path.relative_to(FOLDER)): path for path in inside}
    files |= {path.name: path for path in inside if path.parent != STATIC}

    assert {"ui.py", "templates/index.html", "static/page.js"} <= files.keys()
    for name, path in files.items():
        for url in (f"/{name}", f"/static/../{name}", f"/..%2f{name}", f"/%2e/{name}"):
            reply = client.get(url)
            # /openapi.json is a route too, whose document has the limits filled in
            assert reply.status_code == 404 or url == "/openapi.json", url
            assert reply.data != path.read_bytes(), url


@pytest.mark.parametrize("path", FILES)
def test_page_is_revalidated_by_its_etag(client, path):
    reply = client.get(path)
    again = client.get(path, headers={"If-None-Match": reply.headers["ETag"]})

    assert (reply.status_code, reply.mimetype) == (200, FILES[path])
    assert reply.headers["Cache-Control"] == "no-cache"
    assert (again.status_code, again.data) == (304, b"")
    # an ETag that no longer matches, and a condition that does not apply to GET
    for name in ("If-None-Match", "If-Match"):
        assert client.get(path, headers={name: '"x"'}).status_code == 200


@pytest.mark.parametrize("path", FILES)
def test_page_may_load_only_files_of_the_service(client, path):
    reply = client.get(path)

    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for link in re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', reply.text):
        target = "".join(link)
        assert target.startswith(("#", "data:")) or ":" not in target
    assert not re.search(r"<script(?! src)|<style| style=| on[a-z]+=", reply.text)


def test_docs_list_every_route_status_and_sample(client):
    page = client.get("/docs").text

    for path, item in describe(DEFAULT_LIMITS)["paths"].items():
        for method, operation in item.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            section = page.partition(f'<section id="{operation["operationId"]}"')[2]
            section, _, rest = section.partition("</section>")
            for status in operation["responses"]:
                assert f"<code>{status}</code>" in section + rest.split('id="any"')[1]
    assert "curl -F image=@docs/digit.png" in page
