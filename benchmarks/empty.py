"""An empty WSGI application, the upper bound of what a service can reach."""

from collections.abc import Callable, Iterable
from typing import Any

REPLY = (
    b'{"digit":5,"probability":0.9999962,"probabilities":[1.620912e-10,7.949806e-11,'
    b"1.139258e-11,3.147041e-07,2.120343e-11,0.9999962,2.217618e-08,2.215704e-11,"
    b'1.274201e-08,3.402022e-06],"model":"a209be96a06b"}\n'
)


def no_op(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the request body and return a constant prediction."""
    environ["wsgi.input"].read()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(REPLY)))]
    start_response("200 OK", headers)
    return [REPLY]
