"""gunicorn's settings that have no effect on the worker."""

import sys

from gunicorn.config import Config

from service.settings import MAX_KEEPALIVE, MAX_WORKERS

# settings that must keep their default, by what to do instead
UNSUPPORTED = {
    "terminate TLS in a reverse proxy": (
        *("certfile", "keyfile", "ca_certs", "ciphers", "cert_reqs", "ssl_version"),
        *("do_handshake_on_connect", "suppress_ragged_eofs"),
    ),
    "have the proxy speak HTTP/1.1 and send X-Forwarded-For": (
        *("proxy_protocol", "protocol", "http_protocols", "http2_cleartext", "http_parser"),
    ),
    "set SCRIPT_NAME, or send X-Forwarded-Prefix": ("root_path", "forwarder_headers"),
    "workers run until they are stopped": ("max_requests", "max_requests_jitter"),
    "restart the service, or send SIGHUP for new API keys": ("reload",),
    "log lines are JSON on standard output": (
        *("accesslog", "access_log_format", "errorlog", "capture_output", "syslog"),
        *("logconfig", "logconfig_dict", "logconfig_json"),
    ),
    "have Prometheus scrape /metrics": (
        *("statsd_host", "statsd_prefix", "dogstatsd_tags", "enable_backlog_metric"),
    ),
    "use signals": ("control_socket",),
    "workers share one socket": ("reuse_port",),
    "slow requests have threads of their own": ("threads",),
}
# the other value of a setting that does have an effect
SUPPORTED: dict[str, object] = {"accesslog": "-", "forwarder_headers": [], "http_parser": "python"}
# the least and the greatest value; a worker reports to its master once a second
BOUNDS = {"workers": (1, MAX_WORKERS), "keepalive": (1, MAX_KEEPALIVE), "timeout": (3, 86_400)}


def check(config: Config) -> None:
    """Exit with one line if a setting has no effect on the worker, or is out of bounds."""
    default = Config().settings
    for hint, names in UNSUPPORTED.items():
        for name in names:
            usual = default[name].get()
            if config.settings[name].get() not in (usual, SUPPORTED.get(name, usual)):
                sys.exit(f"digits: {_flag(config, name)} is not supported; {hint}")
    for name, (low, high) in BOUNDS.items():
        value = config.settings[name].get()
        if not low <= value <= high:
            flag = _flag(config, name)
            sys.exit(f"digits: {flag} is {value}; set a number from {low} to {high}")


def _flag(config: Config, name: str) -> str:
    flags = config.settings[name].cli or ()
    return next((flag for flag in flags if flag.startswith("--")), name)
