"""Settings from environment variables."""

import difflib
import hashlib
import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, get_type_hints

MAX_WORKERS = 128
EMBEDDED_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in µs, or "max PERIOD"
PREFIX = "DIGITS_"


class Limits(NamedTuple):
    """Limits of one request; each is a setting, DIGITS_MAX_...

    The smallest and the largest valid value are beside the type of each.
    """

    max_bytes: Annotated[int, 2**16, 2**26] = 16 * 2**20  # of the body
    max_pictures: Annotated[int, 1, 10_000] = 1_000  # in a form
    max_fields: Annotated[int, 0, 1_000] = 10  # in a form, besides the pictures
    # of these fields together. Werkzeug counts its buffer of 64 KiB towards this limit:
    # near 64 KiB, it would refuse some files
    max_field_bytes: Annotated[int, 2**17, 2**24] = 256 * 2**10
    # of a picture: a photo of 4,000 x 6,000 has 24 million, and Pillow refuses to open
    # more than 89 million
    max_pixels: Annotated[int, 2**10, 80_000_000] = 25_000_000
    max_images: Annotated[int, 1, 80_000] = 10_000  # 28 x 28 images in a bulk request

    @property
    def max_pixels_together(self) -> int:
        """The pixels of all pictures of a form; each may have an equal share."""
        return 4 * self.max_pixels


DEFAULT_LIMITS = Limits()
# the smallest and the largest valid value of each
LIMIT_BOUNDS = {k: v.__metadata__ for k, v in get_type_hints(Limits, include_extras=True).items()}

KNOWN = (
    # the last one is a setting of the training job
    *("DIGITS_WEIGHTS", "DIGITS_HOST", "DIGITS_ACCESS_LOG", "DIGITS_API_KEYS", "DIGITS_MNIST"),
    *(PREFIX + name.upper() for name in Limits._fields),
)
EMPTY = hashlib.sha256(b"").hexdigest()
DIGEST = re.compile(r"[0-9a-f]{64}")


class InvalidSetting(ValueError):
    """An environment variable with an invalid name or value."""


class Settings(NamedTuple):
    """Settings of the WSGI application."""

    weights: tuple[Path, ...]  # the first existing file is used
    api_keys: tuple[str, ...]  # SHA-256 digests; if empty, no key is required
    limits: Limits


class ServerSettings(NamedTuple):
    """Settings of the server that runs the application."""

    host: str
    port: int
    workers: int
    access_log: bool


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the application's settings, and the file of API keys if one is set.

    Raises InvalidSetting for an invalid value, and for an unknown name that begins
    with DIGITS_.
    """
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in KNOWN:
            (nearest,) = difflib.get_close_matches(name, KNOWN, 1, 0) or KNOWN[:1]
            raise InvalidSetting(f"unknown setting {name}; did you mean {nearest}?")
    limits = (
        _number(environment, PREFIX + name.upper(), default, *LIMIT_BOUNDS[name])
        for name, default in DEFAULT_LIMITS._asdict().items()
    )
    return Settings(
        weights=_weights(environment.get("DIGITS_WEIGHTS") or str(EMBEDDED_WEIGHTS)),
        api_keys=_digests(environment.get("DIGITS_API_KEYS", "")),
        limits=Limits(*limits),
    )


def read_server_settings(environment: Mapping[str, str]) -> ServerSettings:
    """Read the server's settings; raise InvalidSetting for an invalid value."""
    workers = min(allowed_cpus(), MAX_WORKERS)
    return ServerSettings(
        host=_host(environment.get("DIGITS_HOST") or "127.0.0.1"),
        port=_number(environment, "PORT", 8000, 1, 65535),
        workers=_number(environment, "WEB_CONCURRENCY", workers, 1, MAX_WORKERS),
        access_log=bool(_number(environment, "DIGITS_ACCESS_LOG", 0, 0, 1)),
    )


def _weights(setting: str) -> tuple[Path, ...]:
    paths = tuple(Path(path) for path in setting.split(os.pathsep) if path)
    if not paths:
        raise InvalidSetting(f"DIGITS_WEIGHTS is {setting!r}; name a file")
    return paths


def _digests(setting: str) -> tuple[str, ...]:
    """Read digests from the setting, or from the file that it names."""
    text = setting
    if "/" in setting:
        try:
            text = Path(setting).read_text("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            # without the name, which may be a key with a slash in it
            message = f"DIGITS_API_KEYS names a file that cannot be read: {reason}"
            raise InvalidSetting(message) from None
    text = re.sub(r"#.*", "", text).replace(",", " ").lower()
    # sha256sum writes "-" for standard input
    digests = tuple(digest for digest in text.split() if digest != "-")
    wrong = [i for i, digest in enumerate(digests, 1) if not DIGEST.fullmatch(digest)]
    if EMPTY in digests:
        raise InvalidSetting("DIGITS_API_KEYS contains the digest of an empty key")
    if wrong or (setting and not digests):
        # without the value, which may be a key in clear
        raise InvalidSetting(
            f"DIGITS_API_KEYS: item {(wrong or [1])[0]} is not a SHA-256 digest; set digests, or "
            "the path (with a slash) of a file of digests; to make one: printf %s KEY | sha256sum"
        )
    return digests


def _number(environment: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environment.get(name) or str(default)
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not is_number or not low <= int(text) <= high:
        raise InvalidSetting(f"{name} is {text!r}; set a number from {low} to {high}")
    return int(text)


def _host(host: str) -> str:
    """Return a host name or an IPv4 address as it is, and an IPv6 address in brackets."""
    if re.fullmatch(r"[A-Za-z0-9.-]+", host):
        return host
    try:
        return f"[{ipaddress.IPv6Address(host.strip('[]'))}]"
    except ValueError:
        message = f"DIGITS_HOST is {host!r}; set an IP address or a host name"
        raise InvalidSetting(message) from None


def allowed_cpus() -> int:
    """Return the number of CPUs that affinity and cgroup allow this process."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    quota, _, period = (CGROUP_CPU.read_text() if CGROUP_CPU.exists() else "max").partition(" ")
    if quota.strip() != "max":
        cpus = min(cpus or 1, int(quota) // int(period))
    return max(cpus or 1, 1)
