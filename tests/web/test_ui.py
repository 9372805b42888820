"""The pages that the service has for people: their files, and what these may load."""

import re

import pytest

from service.settings import DEFAULT_LIMITS
from service.web.openapi import describe

FILES = {
    "/": "text/html",
    "/docs": "text/html",
    "/script.js": "text/javascript",
    "/style.css": "text/css",
}


@pytest.mark.parametrize("path", FILES)
def test_page_is_kept_by_browsers_until_it_changes(client, path):
    reply = client.get(path)
    again = client.get(path, headers={"If-None-Match": reply.headers["ETag"]})

    assert (reply.status_code, reply.mimetype) == (200, FILES[path])
    assert reply.headers["Cache-Control"] == "no-cache"
    assert (again.status_code, again.data) == (304, b"")
    # of what has changed since, and of a condition that is another's
    for name in ("If-None-Match", "If-Match"):
        assert client.get(path, headers={name: '"x"'}).status_code == 200


@pytest.mark.parametrize("path", FILES)
def test_page_may_load_nothing_from_elsewhere(client, path):
    reply = client.get(path)

    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for link in re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', reply.text):
        target = "".join(link)
        assert target.startswith(("#", "data:")) or ":" not in target
    assert not re.search(r"<script(?! src)|<style| style=| on[a-z]+=", reply.text)


def test_docs_show_every_route_status_and_sample(client):
    page = client.get("/docs").text

    for path, item in describe(DEFAULT_LIMITS)["paths"].items():
        for method, operation in item.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            section = page.partition(f'<section id="{operation["operationId"]}"')[2]
            section, _, rest = section.partition("</section>")
            for status in operation["responses"]:
                assert f"<code>{status}</code>" in section + rest.split('id="any"')[1]
    assert "curl -F image=@docs/digit.png" in page
