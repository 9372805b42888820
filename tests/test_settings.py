"""The settings of the environment: what they mean, and what is refused."""

import os
from math import inf
from pathlib import Path

import pytest

from service.settings import (
    DEFAULT_LIMITS,
    EMBEDDED_WEIGHTS,
    KNOWN,
    LIMIT_BOUNDS,
    SERVICE_LINKS,
    InvalidSetting,
    Limits,
    allowed_cpus,
    clean_prefix,
    cpu_quota,
    read_server_settings,
    read_settings,
)


def test_defaults_serve_the_shipped_weights_on_loopback_without_keys():
    settings, server = read_settings({}), read_server_settings({})

    assert settings == ((EMBEDDED_WEIGHTS,), (), DEFAULT_LIMITS, (), None)
    assert (server.host, server.port) == ("127.0.0.1", 8000)
    assert (server.workers, server.access_log) == (allowed_cpus(), "0")
    assert (server.keepalive, server.script_name) == (75, "")


def test_an_empty_value_means_the_default():
    names = ("DIGITS_WEIGHTS", "DIGITS_API_KEYS", "DIGITS_MAX_BYTES", "PORT")
    empty = dict.fromkeys(names, "")

    assert read_settings(empty) == read_settings({})
    assert read_server_settings(empty) == read_server_settings({})


def test_weights_are_a_list_of_paths():
    setting = os.pathsep.join(["/weights/new", "/weights/old"])

    weights = read_settings({"DIGITS_WEIGHTS": setting}).weights

    assert weights == (Path("/weights/new"), Path("/weights/old"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", "[::1]"), ("[::1]", "[::1]"), ("0.0.0.0", "0.0.0.0"), ("a.b", "a.b")],
)
def test_ipv6_addresses_are_bracketed(host, expected):
    assert read_server_settings({"DIGITS_HOST": host}).host == expected


@pytest.mark.parametrize("name", Limits._fields)
def test_every_limit_can_be_set_within_its_bounds(name):
    for value in LIMIT_BOUNDS[name]:
        environment = {f"DIGITS_{name.upper()}": str(value)}
        assert getattr(read_settings(environment).limits, name) == value


def test_variables_of_other_programs_are_ignored():
    assert read_settings({"PATH": "/bin", "DIGIT": "7"}) == read_settings({})


def kubernetes(service: str, port: int, protocol: str) -> dict[str, str]:
    """Return what Kubernetes injects for a Service, by its documentation."""
    name, protocol = service.upper().replace("-", "_"), protocol.upper()
    url = f"{protocol.lower()}://10.0.0.11:{port}"
    one = f"{name}_PORT_{port}_{protocol}"
    return {
        f"{name}_SERVICE_HOST": "10.0.0.11",
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP_WEB": str(port),
        f"{name}_PORT": url,
        one: url,
        f"{one}_PROTO": protocol.lower(),
        f"{one}_PORT": str(port),
        f"{one}_ADDR": "10.0.0.11",
    }


@pytest.mark.parametrize("service", ["digits", "digits-weights", "digits-max-bytes", "digits-host"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_variables_that_kubernetes_injects_are_ignored(service, protocol):
    assert read_settings(kubernetes(service, 8000, protocol)) == read_settings({})


def test_variables_that_a_docker_link_injects_are_ignored():
    link = {"DIGITS_NAME": "/web/digits", "DIGITS_ENV_PORT": "8000", "DIGITS_DB_ENV_DIGITS_X": "1"}

    assert read_settings(link) == read_settings({})


def test_no_setting_has_a_name_that_an_orchestrator_injects():
    for name in KNOWN:
        assert not SERVICE_LINKS.fullmatch(f"{name}=tcp://10.0.0.11:8000")


@pytest.mark.parametrize(
    ("lines", "quotas", "cpus"),
    [
        ("0::/", {}, inf),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, inf),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/../b", {"cpu.max": "300000 100000"}, 3),
        ("4:cpu,cpuacct:/d/e", {"cpu,cpuacct/d": ("400000", "100000")}, 4),
        ("4:cpu,cpuacct:/d/e", {"cpu/d/e": ("400000", "100000")}, 4),
        ("4:cpu,cpuacct:/d", {"cpu": ("100000", "50000")}, 2),
        ("4:cpuset:/d\n3:memory:/", {"cpuset/d": ("100000", "50000")}, inf),
        ("4:cpu:/d", {"cpu/d": ("-1", "100000")}, inf),
        ("4:cpu:/d", {"cpu/d": ("100000", "0")}, inf),
        ("0::/", {"cpu.max": "no number"}, inf),
        ("0::/", {"cpu.max": ""}, inf),
        ("nonsense", {"cpu.max": "100000 100000"}, 1),
        (None, {"cpu.max": "100000 100000"}, 1),
        (None, {"cpu": ("700000", "100000")}, 7),
    ],
)
def test_least_cpu_quota_of_the_cgroups_above_the_process_counts(tmp_path, lines, quotas, cpus):
    cgroups = tmp_path / "cgroup"
    if lines is not None:
        cgroups.write_text(lines + "\n")
    for name, content in quotas.items():
        path = tmp_path / name
        texts = {path: content}
        if isinstance(content, tuple):  # cgroup v1
            files = (path / "cpu.cfs_quota_us", path / "cpu.cfs_period_us")
            texts = dict(zip(files, content, strict=True))
        for file, text in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")

    assert cpu_quota(cgroups, tmp_path) == cpus
    affinity = len(os.sched_getaffinity(0))
    assert allowed_cpus(cgroups, tmp_path) == max(1, int(min(affinity, cpus)))


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        *(("", ""), ("/", ""), ("/digits", "/digits"), ("/a/b-c/", "/a/b-c"), ("/a.b", "/a.b")),
        *(("digits", None), ("//evil.example", None), ("/a//b", None), ("/..", None)),
        *(("/a/../b", None), ("/a/./b", None), ("/a, /b", None), ("/<b>", None)),
        *(("/a\r\nX: y", None), ("/%2e", None), ("/" + "a" * 300, None)),
    ],
)
def test_path_prefix_is_a_plain_path(text, prefix):
    assert clean_prefix(text) == prefix


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DIGITS_PROT", "tcp://10.0.0.11:8000", "unknown setting DIGITS_PROT; did you mean"),
        ("DIGITS_PORT", "9", "unknown setting DIGITS_PORT; did you mean PORT?"),
        ("DIGITS_PORTS", "9", "unknown setting DIGITS_PORTS; did you mean"),
        ("DIGITS_WEIGHT", "x", "unknown setting DIGITS_WEIGHT; did you mean DIGITS_WE"),
        ("DIGITS_MAX_BYTE", "9", "unknown setting DIGITS_MAX_BYTE; did you mean DIGI"),
        ("DIGITS_HOSTILE_DIR", "x", "unknown setting DIGITS_HOSTILE_DIR; "),
        ("DIGITS_WEB_CONCURRENCY", "2", "did you mean WEB_CONCURRENCY?"),
        ("DIGITS_QXZ", "2", "unknown setting DIGITS_QXZ; see python -m service settings"),
        ("DIGITS_WEIGHTS", os.pathsep, "DIGITS_WEIGHTS is ':'; name a file"),
        ("DIGITS_MAX_BYTES", "16 MB", "DIGITS_MAX_BYTES is '16 MB'; set a number from"),
        ("DIGITS_MAX_PIXELS", "90000000", "set a number from 1024 to 80000000"),
        ("DIGITS_MAX_IMAGES", "-1", "DIGITS_MAX_IMAGES is '-1'; set a number"),
    ],
)
def test_invalid_setting_of_the_application_is_refused(name, value, message):
    with pytest.raises(InvalidSetting) as refused:
        read_settings({name: value})

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "1" * 5000),
        ("PORT", "٣"),
        ("WEB_CONCURRENCY", "0"),
        ("DIGITS_ACCESS_LOG", "yes"),
        ("DIGITS_KEEPALIVE", "0"),
        ("DIGITS_KEEPALIVE", "3601"),
        ("SCRIPT_NAME", "digits"),
        ("SCRIPT_NAME", "//a"),
        ("DIGITS_HOST", "127.0.0.1:9"),
        ("DIGITS_HOST", "a b"),
    ],
)
def test_invalid_setting_of_the_server_is_refused(name, value):
    with pytest.raises(InvalidSetting) as refused:
        read_server_settings({name: value})

    assert str(refused.value).startswith(f"{name} is {value!r}; set ")
