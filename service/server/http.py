"""HTTP/1.1 parsing and response writing by gunicorn, without a socket."""

import os
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from http import HTTPStatus
from ipaddress import ip_address
from typing import NamedTuple
from wsgiref.types import WSGIApplication, WSGIEnvironment

from gunicorn.config import Config
from gunicorn.http import errors, message, wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import Unreader

from service.server.wsgi_keys import DEFER, FORWARDED_HOSTS, REQUEST_ID
from service.settings import clean_prefix

# host, port and more, or "" for a Unix socket
Address = tuple[str, int] | tuple[str, int, int, int] | str
# the headers and the body of an error response, for a status, a detail and a path
ErrorReply = Callable[[HTTPStatus, str, WSGIEnvironment], tuple[list[tuple[str, str]], bytes]]

HEAD_END = b"\r\n\r\n"
# bytes per read; gunicorn's parser copies what remains of them for every chunk
PARSER_READ_SIZE = 2**13
BODY_READ_SIZE = 2**16  # bytes
REQUEST_ID_FORMAT = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
FORWARDED = ("X-FORWARDED-FOR", "X-FORWARDED-PREFIX", "X-FORWARDED-HOST")
# an address in X-Forwarded-For, with or without a port
FORWARDED_ADDRESS = re.compile(r"\[(.+)\](?::\d+)?|([\d.]+)(?::\d+)?|(.+)")
UNIX_CLIENT = "unix socket"  # logged in place of an address
HTTP_ONLY = "terminate TLS in a reverse proxy, or use http://"
PROXY_PROTOCOL = "the PROXY protocol; send X-Forwarded-For instead"
# the first bytes of other protocols, and what to do about each
OTHER_PROTOCOLS = {
    b"\x16\x03": f"a TLS handshake; {HTTP_ONLY}",
    b"PRI * HTTP/2": "HTTP/2; use HTTP/1.1",
    b"PROXY TCP": PROXY_PROTOCOL,
    b"PROXY UNKNOWN": PROXY_PROTOCOL,
    b"\r\n\r\n\0\r\nQUIT\n": PROXY_PROTOCOL,
}
FIRST_BYTES = tuple(OTHER_PROTOCOLS)
STATUS_OF_ERROR = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}


class Refusal(Exception):
    """A request that is answered with an error and not passed to the application."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class OtherProtocol(Refusal):
    """A refusal of a client that does not send HTTP/1."""

    def __init__(self, data: bytearray) -> None:
        """Name the protocol whose FIRST_BYTES these are."""
        (name,) = [name for first, name in OTHER_PROTOCOLS.items() if data.startswith(first)]
        super().__init__(HTTPStatus.BAD_REQUEST, f"not an HTTP/1.1 request: received {name}")


class Deferred(NamedTuple):
    """What environ[DEFER] makes of a function: a WSGI body that a thread computes."""

    call: Callable[[], Iterable[bytes]]
    cost: float | None = None  # of a short function, in small pictures


class ReceiveBuffer(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """Bytes received and not yet parsed; reading them never blocks."""

    def __init__(self) -> None:
        self.data = bytearray()

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        """Remove and return `size` bytes, or up to PARSER_READ_SIZE."""
        end = PARSER_READ_SIZE if size is None else size
        taken = bytes(self.data[:end])
        del self.data[:end]
        return taken

    def unread(self, data: bytes) -> None:
        """Put back bytes that were read beyond the end of a message."""
        self.data[:0] = data


class SendBuffer(bytearray):
    """The bytes of a response, in place of the socket that gunicorn writes to."""

    send = sendall = bytearray.extend


class Request(message.Request):  # type: ignore[misc]  # gunicorn has no types
    """A parsed request head whose body is read from the connection's buffer."""

    _expected_100_continue: bool
    path: str

    def __init__(
        self,
        config: Config,
        received: ReceiveBuffer,
        address: Address,
        n: int,
        script_name: str = "",
    ) -> None:
        """Parse the request line and the headers, which must be complete.

        n: 1 for the first request of the connection; script_name: the path prefix, unless
        a trusted proxy names another one. Raises Refusal.
        """
        try:
            super().__init__(config, received, address, n)
        except (errors.ParseException, errors.NoMoreData) as error:
            raise _malformed(error) from error
        self.client, self.script_name = host(address), script_name
        self.forwarded_hosts: list[str] = []
        forwarded = [header for header in self.headers if header[0] in FORWARDED]
        if forwarded and self._peer_is_trusted_proxy():
            self._apply(forwarded)
        # a proxy may remove the prefix, and probes do not know it
        if self.script_name and f"{self.path}/".startswith(f"{self.script_name}/"):
            self.path = self.path[len(self.script_name) :]

    def _apply(self, forwarded: list[tuple[str, str]]) -> None:
        """Set the client, the prefix and the hosts from the headers of a trusted proxy.

        The client is the last address in X-Forwarded-For that does not belong to a proxy
        that FORWARDED_ALLOW_IPS names.
        """
        addresses, prefixes, hosts = (
            ",".join(value for header, value in forwarded if header == name) for name in FORWARDED
        )
        self.script_name = clean_prefix(prefixes) or self.script_name
        self.forwarded_hosts = [name.strip() for name in hosts.split(",")]
        for text in reversed(addresses.split(",")):
            try:
                ip = ip_address(FORWARDED_ADDRESS.sub(r"\1\2\3", text.strip()))
            except ValueError:
                break
            ip = getattr(ip, "ipv4_mapped", None) or ip
            self.client = str(ip)
            if not any(ip in network for network in self.cfg.forwarded_allow_networks()):
                break

    @property
    def content_length(self) -> int | None:
        """Bytes of the body that are not read yet; None if it is chunked."""
        reader = self.body.reader
        return reader.length if isinstance(reader, LengthReader) else None

    @cached_property
    def id(self) -> str:
        """The X-Request-ID that the client sent, or a new one if it is unusable."""
        sent = [value for name, value in self.headers if name == "X-REQUEST-ID"]
        is_usable = len(sent) == 1 and REQUEST_ID_FORMAT.fullmatch(sent[0])
        return sent[0] if is_usable else new_request_id()

    @property
    def origin(self) -> str:
        """The origin of the page that sent the request, or an empty string."""
        return ",".join(value for name, value in self.headers if name == "ORIGIN")

    def expects_continue(self) -> bool:
        """Return whether the client waits for "100 Continue"; False after that."""
        expects, self._expected_100_continue = self._expected_100_continue, False
        return expects


def plain_address(address: tuple[str, int] | tuple[str, int, int, int] | str | bytes) -> Address:
    """Return the address of a socket; an IPv4 address in IPv6 notation as IPv4."""
    if not isinstance(address, tuple):
        return ""
    return (address[0].removeprefix("::ffff:"), *address[1:]) if "." in address[0] else address


def host(address: Address) -> str:
    """Return an address without its port."""
    return address[0] if isinstance(address, tuple) else UNIX_CLIENT


def new_request_id() -> str:
    """Return 16 random hexadecimal digits."""
    return os.urandom(8).hex()


def _malformed(error: Exception) -> Refusal:
    status = STATUS_OF_ERROR.get(type(error), HTTPStatus.BAD_REQUEST)
    if isinstance(error, errors.LimitRequestHeaders):
        return Refusal(
            status, f"too many or too long headers ({error}); send fewer or shorter ones"
        )
    return Refusal(status, f"malformed HTTP request: {error}")


class Exchange:
    """A request that is passed to the application, and its response."""

    environ: WSGIEnvironment

    def __init__(self, request: Request, client: Address, server: Address, config: Config) -> None:
        """Build the WSGI environ. Raises Refusal."""
        # gunicorn would refuse paths outside the SCRIPT_NAME of the environment
        request.headers.append(("SCRIPT_NAME", ""))
        request.expects_continue()  # the whole body is here: send no "100 Continue"
        self.reply = SendBuffer()
        try:
            self.response, self.environ = wsgi.create(request, self.reply, client, server, config)
        except errors.ParseException as error:
            raise _malformed(error) from error
        del self.environ["HTTP_SCRIPT_NAME"]
        self.environ["SCRIPT_NAME"] = request.script_name
        self.environ["REMOTE_ADDR"] = request.client
        self.environ[FORWARDED_HOSTS] = request.forwarded_hosts
        self.environ["wsgi.multithread"] = True
        self.environ[DEFER] = Deferred
        self.environ[REQUEST_ID] = request.id
        self.response.headers.append(("X-Request-ID", request.id))
        self.request = request
        self.body: Iterable[bytes] | Deferred = ()

    def call(self, application: WSGIApplication) -> None:
        """Call the application for its body, and raise what it raises."""
        self.body = application(self.environ, self.response.start_response)

    def finish(self) -> None:
        """Write the body to the response; raise what the application raises."""
        if isinstance(self.body, Deferred):
            self.body = self.body.call()
        request_body = self.request.body
        # after a malformed body, the start of the next request is unknown
        if request_body.failed:
            self.response.force_close()
        try:
            for data in self.body:
                self.response.write(data)
            self.response.close()
            while request_body.read(BODY_READ_SIZE):
                pass  # the rest that the application did not read
        except (errors.ParseException, errors.NoMoreData):
            self.response.force_close()
        finally:
            if hasattr(self.body, "close"):
                self.body.close()

    def refuse(self, refusal: Refusal, error_reply: ErrorReply) -> None:
        """Replace what was written by an error response, which closes."""
        self.reply[:] = error_response(refusal, self.environ, error_reply)
        self.response.status_code = refusal.status
        self.response.force_close()


def plain_error(
    status: HTTPStatus, detail: str, environ: WSGIEnvironment
) -> tuple[list[tuple[str, str]], bytes]:
    """Return an error as plain text, for applications that set no `error_reply`."""
    return [("Content-Type", "text/plain; charset=utf-8")], f"{detail}\n".encode()


def error_response(refusal: Refusal, environ: WSGIEnvironment, error_reply: ErrorReply) -> bytes:
    """Return the bytes of an error response, after which the connection closes."""
    status = refusal.status
    headers, body = error_reply(status, refusal.detail, environ)
    head = (
        f"HTTP/1.1 {status:d} {status.phrase}\r\nConnection: close\r\n"
        f"X-Request-ID: {environ[REQUEST_ID]}\r\nContent-Length: {len(body)}\r\n"
    )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        head += "Retry-After: 1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return head.encode() + (b"" if environ["REQUEST_METHOD"] == "HEAD" else body)
