"""An empty WSGI application, the upper bound of what a service can reach."""

from collections.abc import Callable, Iterable
from typing import Any

REPLY = (
    b'{"digit":5,"probability":0.9999948,"is_digit":0.9999465,"probabilities":['
    b"5.758023e-08,1.237657e-08,2.205256e-09,2.798258e-06,7.186203e-09,0.9999948,"
    b'3.738145e-07,2.221155e-08,2.341919e-07,1.693103e-06],"model":"26427f16be86"}\n'
)


def no_op(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the request body and return a constant prediction."""
    environ["wsgi.input"].read()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(REPLY)))]
    start_response("200 OK", headers)
    return [REPLY]
