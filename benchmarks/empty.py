"""An empty WSGI application, the upper bound of what a service can reach."""

from collections.abc import Callable, Iterable
from typing import Any

REPLY = (
    b'{"digit":5,"probability":0.9999859,"probabilities":[1.435907e-07,2.059962e-08,'
    b"4.613951e-09,7.173149e-06,2.240775e-08,0.9999859,4.358928e-07,9.426977e-08,"
    b'1.670506e-07,6.043964e-06],"model":"75cee841ad6d"}\n'
)


def no_op(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the request body and return a constant prediction."""
    environ["wsgi.input"].read()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(REPLY)))]
    start_response("200 OK", headers)
    return [REPLY]
