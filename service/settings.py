"""Settings from environment variables."""

import difflib
import hashlib
import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Annotated, NamedTuple, get_type_hints

MAX_WORKERS = 128
EMBEDDED_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
MAX_KEEPALIVE = 3600  # seconds
CGROUPS, CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # man 7 cgroups
PREFIX = "DIGITS_"
# values of DIGITS_ACCESS_LOG; the last one omits probes that succeed
ACCESS_LOGS = LOG_NOTHING, LOG_ALL, LOG_NO_PROBES = ("0", "1", "no-probes")


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
    # DIGITS_MNIST is a setting of the training job
    *("DIGITS_WEIGHTS", "DIGITS_HOST", "DIGITS_KEEPALIVE", "DIGITS_ACCESS_LOG"),
    *("DIGITS_API_KEYS", "DIGITS_ALLOWED_ORIGINS", "DIGITS_FEEDBACK_DIR", "DIGITS_MNIST"),
    *(PREFIX + name.upper() for name in Limits._fields),
)
# Variables that Kubernetes injects for a Service whose name is "digits" or begins with
# "digits-", and Docker for a link of such a name. One like DIGITS_PORT=9 is a mistake.
SERVICE_LINKS = re.compile(
    r"DIGITS_(\w+_)?("
    r"SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|PORT=(tcp|udp|sctp)://"
    r"|ENV_\w+=|NAME=/).*",
    re.DOTALL,
)
# the unreserved characters of RFC 3986; no segment is empty or consists of dots
URL_PREFIX = re.compile(r"(/(?!\.+(?:/|$))[A-Za-z0-9._~-]+)+")
MAX_URL_PREFIX = 200  # characters
NEAR = 0.7  # the least similarity of the name that is suggested for an unknown one
UNPREFIXED = ("PORT", "WEB_CONCURRENCY", "SCRIPT_NAME")  # settings of other services too
EMPTY = hashlib.sha256(b"").hexdigest()
DIGEST = re.compile(r"[0-9a-f]{64}")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
ANY_ORIGIN = "*"
DEFAULT_PORTS = re.compile(r"(?<=^http)(://.+):80$|(?<=^https)(://.+):443$")  # browsers omit them


class InvalidSetting(ValueError):
    """An environment variable with an invalid name or value."""


class Settings(NamedTuple):
    """Settings of the WSGI application."""

    weights: tuple[Path, ...]  # the first existing file is used
    api_keys: tuple[str, ...]  # SHA-256 digests; if empty, no key is required
    limits: Limits
    # origins whose pages may use the service; ANY_ORIGIN is any
    allowed_origins: tuple[str, ...] = ()
    feedback_dir: Path | None = None  # where corrections are kept; None: nowhere


class ServerSettings(NamedTuple):
    """Settings of the server that runs the application."""

    host: str
    port: int
    workers: int
    keepalive: int  # seconds
    access_log: str  # one of ACCESS_LOGS
    script_name: str  # path prefix of all routes, such as "/digits", or ""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the application's settings, and the file of API keys if one is set.

    Raises InvalidSetting for an invalid value or an unknown name.
    """
    refuse_unknown(environment)
    folder = environment.get("DIGITS_FEEDBACK_DIR")
    limits = (
        _number(environment, PREFIX + name.upper(), default, *LIMIT_BOUNDS[name])
        for name, default in DEFAULT_LIMITS._asdict().items()
    )
    return Settings(
        weights=_weights(environment.get("DIGITS_WEIGHTS") or str(EMBEDDED_WEIGHTS)),
        api_keys=_digests(environment.get("DIGITS_API_KEYS", "")),
        limits=Limits(*limits),
        allowed_origins=_origins(environment.get("DIGITS_ALLOWED_ORIGINS", "")),
        feedback_dir=Path(folder) if folder else None,
    )


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Raise InvalidSetting for an unknown name that begins with DIGITS_.

    Those that an orchestrator injects are ignored.
    """
    for name in sorted(environment):
        is_ours = name.startswith(PREFIX) and name not in KNOWN
        if is_ours and not SERVICE_LINKS.fullmatch(f"{name}={environment[name]}"):
            bare = name.removeprefix(PREFIX)
            near = [bare] if bare in UNPREFIXED else difflib.get_close_matches(name, KNOWN, 1, NEAR)
            hint = f"did you mean {near[0]}?" if near else "see python -m service settings"
            raise InvalidSetting(f"unknown setting {name}; {hint}")


def read_server_settings(environment: Mapping[str, str]) -> ServerSettings:
    """Read the server's settings; raise InvalidSetting for an invalid value."""
    workers = min(allowed_cpus(), MAX_WORKERS)
    return ServerSettings(
        host=_host(environment.get("DIGITS_HOST") or "127.0.0.1"),
        port=_number(environment, "PORT", 8000, 1, 65535),
        workers=_number(environment, "WEB_CONCURRENCY", workers, 1, MAX_WORKERS),
        keepalive=_number(environment, "DIGITS_KEEPALIVE", 75, 1, MAX_KEEPALIVE),
        access_log=_access_log(environment.get("DIGITS_ACCESS_LOG") or LOG_NOTHING),
        script_name=_script_name(environment.get("SCRIPT_NAME", "")),
    )


def clean_prefix(text: str) -> str | None:
    """Return a path prefix without its last slash; None if it is not a plain path."""
    prefix = text.rstrip("/")
    is_plain = len(prefix) <= MAX_URL_PREFIX and URL_PREFIX.fullmatch(prefix)
    return prefix if is_plain or not prefix else None


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
            if Path(setting).is_fifo():  # reading might not end
                raise OSError(0, "it is a pipe")
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


def _origins(setting: str) -> tuple[str, ...]:
    """Read a list of origins as browsers write them (RFC 6454, 6.2)."""
    origins = setting.replace(",", " ").lower().split()
    for origin in origins:
        if origin != ANY_ORIGIN and not ORIGIN.fullmatch(origin):
            raise InvalidSetting(
                f"DIGITS_ALLOWED_ORIGINS has {origin!r}; set origins such as "
                "https://example.org or http://localhost:3000, without a path, or *"
            )
    return tuple(map(without_default_port, origins))


def without_default_port(origin: str) -> str:
    """Return an origin without the port that its scheme implies."""
    return DEFAULT_PORTS.sub(r"\1\2", origin)


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


def _access_log(value: str) -> str:
    if value not in ACCESS_LOGS:
        raise InvalidSetting(f"DIGITS_ACCESS_LOG is {value!r}; set {', '.join(ACCESS_LOGS)}")
    return value


def _script_name(path: str) -> str:
    prefix = clean_prefix(path)
    if prefix is None:
        raise InvalidSetting(f"SCRIPT_NAME is {path!r}; set a path such as /digits")
    return prefix


def allowed_cpus(cgroups: Path = CGROUPS, root: Path = CGROUP_ROOT) -> int:
    """Return the number of CPUs that affinity and cgroups allow, rounded down, at least 1.

    cgroups: a file of the process's cgroups; root: where they are mounted
    """
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return int(max(1, min(cpus or 1, cpu_quota(cgroups, root))))


def cpu_quota(cgroups: Path, root: Path) -> float:
    """Return the least quota of the process's cgroups and their ancestors, or inf."""
    try:
        lines = re.findall(r"^\d+:([^:\n]*):(.*)$", cgroups.read_text(), re.MULTILINE)
    except (OSError, ValueError):
        lines = []
    # a container often finds its own group mounted as the root
    groups = {root, root / "cpu"}
    for controllers, path in lines:  # no controllers: cgroup v2
        if not controllers or "cpu" in controllers.split(","):
            names = [name for name in path.split("/") if name not in ("", "..")]
            for mount in (root / controllers, root / "cpu"):
                groups |= {mount.joinpath(*names[:i]) for i in range(len(names) + 1)}
    return min(map(_quota, groups))


def _quota(group: Path) -> float:
    """Return the CPUs that a cgroup may use; inf without a quota that can be read."""
    v2 = group / "cpu.max"  # "QUOTA PERIOD" in µs, or "max PERIOD"
    v1 = (group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")  # a quota of -1 is none
    try:
        files = [v2] if v2.exists() else v1
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else inf
    except (OSError, ValueError, ZeroDivisionError):
        return inf
