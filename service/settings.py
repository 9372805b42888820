"""What the environment says of how to serve, checked before anything starts."""

import difflib
import hashlib
import ipaddress
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MAX_WORKERS = 128
EMBEDDED_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in µs, or "max PERIOD"
PREFIX = "DIGITS_"


class Limits(NamedTuple):
    """The most that one request may hold; each of these is a setting."""

    max_bytes: int = 16 * 2**20  # of its body
    max_pictures: int = 1_000  # in a form
    max_fields: int = 10  # of a form beside its pictures
    max_field_bytes: int = 256 * 2**10  # of all its fields that are not files
    max_pixels: int = 25_000_000  # of a picture: a 4,000 x 4,000 photo and some more
    max_images: int = 10_000  # of 28 x 28, in a bulk request

    @property
    def max_pixels_together(self) -> int:
        """The pixels that the pictures of one form share evenly."""
        return 4 * self.max_pixels


DEFAULT_LIMITS = Limits()
# the smallest and the largest value that each may be set to
LIMIT_BOUNDS = {
    "max_bytes": (2**16, 2**26),
    "max_pictures": (1, 10_000),
    "max_fields": (0, 1_000),
    # Werkzeug compares this limit with its buffer of 64 KiB plus what is left in it:
    # a limit as small as that refuses some files
    "max_field_bytes": (2**17, 2**24),
    "max_pixels": (2**10, 80_000_000),  # from 90 million on, Pillow refuses to open
    "max_images": (1, 80_000),
}

KNOWN = (
    *("DIGITS_WEIGHTS", "DIGITS_HOST", "DIGITS_ACCESS_LOG", "DIGITS_API_KEYS"),
    *(PREFIX + name.upper() for name in Limits._fields),
    *("DIGITS_MNIST", "DIGITS_HOSTILE_DIR"),  # the training job's, the tests'
)
EMPTY = hashlib.sha256(b"").hexdigest()
DIGEST = re.compile(r"[0-9a-f]{64}")


class InvalidSetting(ValueError):
    """A variable of the environment that cannot be followed; says which, and why."""


class Settings(NamedTuple):
    """How to serve."""

    weights: tuple[Path, ...]  # the first that exists is served
    host: str
    port: int
    workers: int
    access_log: bool
    api_keys: tuple[str, ...]  # SHA-256 digests of those let in, or none for everyone
    limits: Limits


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read all settings; raises InvalidSetting for what is wrong, or not known."""
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in KNOWN:
            (nearest,) = difflib.get_close_matches(name, KNOWN, 1, 0) or KNOWN[:1]
            raise InvalidSetting(f"{name} is no setting; did you mean {nearest}?")
    return Settings(
        weights=_weights(environment.get("DIGITS_WEIGHTS") or str(EMBEDDED_WEIGHTS)),
        host=_host(environment.get("DIGITS_HOST") or "127.0.0.1"),
        port=_number(environment, "PORT", 8000, 1, 65535),
        workers=_number(
            environment,
            "WEB_CONCURRENCY",
            min(allowed_cpus(), MAX_WORKERS),
            1,
            MAX_WORKERS,
        ),
        access_log=bool(_number(environment, "DIGITS_ACCESS_LOG", 0, 0, 1)),
        api_keys=_digests(environment.get("DIGITS_API_KEYS", "")),
        limits=Limits(
            *(
                _number(
                    environment, PREFIX + name.upper(), default, *LIMIT_BOUNDS[name]
                )
                for name, default in DEFAULT_LIMITS._asdict().items()
            )
        ),
    )


_in_effect: list[Settings] = []


def keep_settings(environment: Mapping[str, str]) -> Settings:
    """Read all settings, or go on with those before if what is new is wrong.

    Raises InvalidSetting if there are none before.
    """
    try:
        _in_effect[:] = [read_settings(environment)]
    except InvalidSetting as error:
        if not _in_effect:
            raise
        logging.getLogger(__name__).error("%s; the settings before go on", error)
    return _in_effect[0]


def _weights(setting: str) -> tuple[Path, ...]:
    paths = tuple(Path(path) for path in setting.split(os.pathsep) if path)
    if not paths:
        raise InvalidSetting(f"DIGITS_WEIGHTS is {setting!r}; name a file")
    return paths


def _digests(setting: str) -> tuple[str, ...]:
    """Read digests from the setting itself, or from the file that it names."""
    text = setting
    if "/" in setting:
        try:
            text = Path(setting).read_text("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            # nor is its name, which may be a key with a slash in it
            raise InvalidSetting(
                f"DIGITS_API_KEYS names a file that cannot be read: {reason}"
            ) from None
    text = re.sub(r"#.*", "", text).replace(",", " ").lower()
    # sha256sum writes "-" for where its input came from
    digests = tuple(digest for digest in text.split() if digest != "-")
    # what is wrong may be a key in clear: it is not shown
    wrong = [i for i, digest in enumerate(digests, 1) if not DIGEST.fullmatch(digest)]
    if EMPTY in digests:
        raise InvalidSetting("DIGITS_API_KEYS holds the digest of no key at all")
    if wrong or (setting and not digests):
        raise InvalidSetting(
            f"DIGITS_API_KEYS holds no SHA-256 digest at place {(wrong or [1])[0]}; "
            "set digests, or the path of a file of them, with a slash in it; make one "
            "by: printf %s KEY | sha256sum"
        )
    return digests


def _number(
    environment: Mapping[str, str], name: str, default: int, low: int, high: int
) -> int:
    text = environment.get(name) or str(default)
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not is_number or not low <= int(text) <= high:
        raise InvalidSetting(f"{name} is {text!r}; set a number from {low} to {high}")
    return int(text)


def _host(host: str) -> str:
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", host):
            raise InvalidSetting(
                f"DIGITS_HOST is {host!r}; set an address or a host's name"
            ) from None
        return host
    return f"[{host.strip('[]')}]" if version == 6 else host


def allowed_cpus() -> int:
    """Count the CPUs this process may use, by its affinity and its container's."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    quota, _, period = (
        CGROUP_CPU.read_text() if CGROUP_CPU.exists() else "max"
    ).partition(" ")
    if quota.strip() != "max":
        cpus = min(cpus or 1, int(quota) // int(period))
    return max(cpus or 1, 1)
