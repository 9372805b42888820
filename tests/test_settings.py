"""The settings of the environment: what they mean, and what is refused."""

import os
from pathlib import Path

import pytest

from service.settings import (
    DEFAULT_LIMITS,
    EMBEDDED_WEIGHTS,
    LIMIT_BOUNDS,
    InvalidSetting,
    Limits,
    allowed_cpus,
    read_server_settings,
    read_settings,
)


def test_defaults_serve_the_shipped_weights_on_loopback_without_keys():
    settings, server = read_settings({}), read_server_settings({})

    assert settings == ((EMBEDDED_WEIGHTS,), (), DEFAULT_LIMITS)
    assert (server.host, server.port) == ("127.0.0.1", 8000)
    assert (server.workers, server.access_log) == (allowed_cpus(), False)


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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DIGITS_WEIGHT", "x", "unknown setting DIGITS_WEIGHT; did you mean DIGITS_WE"),
        ("DIGITS_MAX_BYTE", "9", "unknown setting DIGITS_MAX_BYTE; did you mean DIGI"),
        ("DIGITS_HOSTILE_DIR", "x", "unknown setting DIGITS_HOSTILE_DIR; did you mean"),
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
        ("DIGITS_HOST", "127.0.0.1:9"),
        ("DIGITS_HOST", "a b"),
    ],
)
def test_invalid_setting_of_the_server_is_refused(name, value):
    with pytest.raises(InvalidSetting) as refused:
        read_server_settings({name: value})

    assert str(refused.value).startswith(f"{name} is {value!r}; set ")
