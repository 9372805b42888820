"""An empty WSGI application, the upper bound of what a service can reach."""

from collections.abc import Callable, Iterable
from typing import Any

REPLY = (
    b'{"digit":5,"probability":0.9999863,"probabilities":[1.463833e-07,1.976581e-08,'
    b"4.624413e-09,6.982475e-06,2.194249e-08,0.9999863,4.346790e-07,9.825410e-08,"
    b'1.651045e-07,5.783400e-06],"model":"e997eddde8ca"}\n'
)


def no_op(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the request body and return a constant prediction."""
    environ["wsgi.input"].read()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(REPLY)))]
    start_response("200 OK", headers)
    return [REPLY]
