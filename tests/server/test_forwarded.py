"""Forwarded clients, schemes and path prefixes, in the environ of a request."""

from ipaddress import ip_address

import pytest
from gunicorn.config import Config

from service.server.connection import Connection, ReceiveLimits
from service.server.http import Exchange, plain_address

PROXY, STRANGER = ("127.0.0.1", 5000), ("192.0.2.7", 5000)


def environ(
    headers: str = "",
    path: str = "/readyz",
    peer: tuple | str = PROXY,
    trusted: str = "127.0.0.1,10.0.0.0/8",
    script_name: str = "",
) -> dict:
    config = Config()
    config.set("forwarded_allow_ips", trusted)
    config.set("forwarder_headers", "")
    limits = ReceiveLimits(config, 1000, script_name)
    connection = Connection(plain_address(peer), ("127.0.0.1", 80), limits, 0.0)
    connection.receive(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode(), 0.0)
    request = connection.parse()
    assert request
    assert connection.client == request.client
    return Exchange(request, connection.address, connection.server, config).environ


def forwarded(*values: str) -> str:
    return "".join(f"X-Forwarded-For: {value}\r\n" for value in values)


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], "127.0.0.1"),
        (["203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (["6.6.6.6", "203.0.113.9", "10.1.2.3"], "203.0.113.9"),
        (["10.1.2.3, 10.1.2.4"], "10.1.2.3"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, ::ffff:10.0.0.1"], "6.6.6.6"),
        (["unknown"], "127.0.0.1"),
        (["6.6.6.6, unknown, 10.0.0.1"], "10.0.0.1"),
        (["6.6.6.6, <script>"], "127.0.0.1"),
        (["6.6.6.6,"], "127.0.0.1"),
        ([""], "127.0.0.1"),
    ],
)
def test_client_is_the_last_forwarded_address_that_is_no_trusted_proxy(values, client):
    assert environ(forwarded(*values))["REMOTE_ADDR"] == client


@pytest.mark.parametrize("header", ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Prefix: /evil"])
def test_headers_of_an_untrusted_peer_are_ignored(header):
    got = environ(f"{header}\r\nX-Forwarded-Proto: https\r\n", peer=STRANGER)

    assert (got["REMOTE_ADDR"], got["SCRIPT_NAME"]) == (STRANGER[0], "")
    assert got["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("peer", "client"),
    [("", "unix socket"), (b"", "unix socket"), ("/run/x", "unix socket"), (b"\0x", "unix socket")],
)
def test_peers_of_a_unix_socket_are_trusted(peer, client):
    assert environ(peer=peer)["REMOTE_ADDR"] == client
    assert environ(forwarded("203.0.113.9"), peer=peer)["REMOTE_ADDR"] == "203.0.113.9"


def test_ipv4_peer_of_an_ipv6_socket_is_trusted_by_its_ipv4_address():
    got = environ(forwarded("203.0.113.9"), peer=("::ffff:127.0.0.1", 5000, 0, 0))

    assert got["REMOTE_ADDR"] == "203.0.113.9"


def test_star_trusts_every_peer_and_no_forwarded_address():
    got = environ(forwarded("6.6.6.6, 203.0.113.9"), peer=STRANGER, trusted="*")

    assert got["REMOTE_ADDR"] == "203.0.113.9"


def test_client_is_always_an_address_or_the_peer():
    for value in ("1.2.3", "1.2.3.4.5", "[::1", "::1]", "1.2.3.4:x", "300.1.1.1", "a" * 8000):
        assert ip_address(environ(forwarded(value))["REMOTE_ADDR"])


def test_scheme_is_that_of_the_trusted_proxy():
    assert environ("X-Forwarded-Proto: https\r\n")["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    ("headers", "script_name", "path", "expected"),
    [
        ("", "", "/readyz", ("", "/readyz")),
        ("", "/digits", "/digits/readyz", ("/digits", "/readyz")),
        ("", "/digits", "/readyz", ("/digits", "/readyz")),
        ("", "/digits", "/digits", ("/digits", "")),
        ("", "/digits", "/digits/", ("/digits", "/")),
        ("", "/digits", "/digitsreadyz", ("/digits", "/digitsreadyz")),
        ("", "/digits", "/digits/a%20b", ("/digits", "/a b")),
        ("/p", "", "/p/readyz", ("/p", "/readyz")),
        ("/p/", "", "/readyz", ("/p", "/readyz")),
        ("/p", "/digits", "/p/readyz", ("/p", "/readyz")),
        ("//evil.example", "", "/readyz", ("", "/readyz")),
        ("/../x", "/digits", "/readyz", ("/digits", "/readyz")),
        ("/p, /q", "", "/readyz", ("", "/readyz")),
    ],
)
def test_prefix_is_separated_from_the_path(headers, script_name, path, expected):
    header = f"X-Forwarded-Prefix: {headers}\r\n" if headers else ""

    got = environ(header, path, script_name=script_name)

    assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == expected


def test_script_name_is_set_by_no_header_and_no_variable(monkeypatch):
    monkeypatch.setenv("SCRIPT_NAME", "/other")  # which gunicorn reads for every request

    got = environ("SCRIPT_NAME: /evil\r\nScript-Name: /evil\r\n", script_name="/digits")

    assert got["SCRIPT_NAME"] == "/digits"
    assert "HTTP_SCRIPT_NAME" not in got
