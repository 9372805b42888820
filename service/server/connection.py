"""Sans-I/O HTTP connection: bytes in, bytes out, states, deadlines and byte budgets."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from math import inf
from wsgiref.types import WSGIEnvironment

from gunicorn.config import Config

from service.server.http import (
    FIRST_BYTES,
    HEAD_END,
    Address,
    OtherProtocol,
    ReceiveBuffer,
    Refusal,
    Request,
    host,
    new_request_id,
)
from service.server.metrics import OTHER
from service.server.wsgi_keys import RECEIVED_AT, REQUEST_ID

TIMEOUT = 10.0  # seconds to receive a request or to send a reply, and of silence
MIN_RATE = 32 * 2**10  # bytes per second; a transfer at this rate extends the timeout
LINGER_TIMEOUT = 2.0  # seconds for a client to read a reply while it still sends

MAX_HEAD_BYTES = 64 * 2**10  # of the request line and the headers
MAX_CHUNK_LINE = 2**13  # bytes
MAX_CHUNKS = 2**14  # per body; a chunk costs as much CPU as a kilobyte of a long one
MAX_HELD = 64 * 2**20  # bytes of large requests and replies, all together
MIN_HELD = 2**16  # bytes; up to this size, a request or reply is small
MAX_SMALL = 64 * 2**20  # bytes of all connections except their large requests
# bytes of memory, as measured
CONNECTION_BYTES, REQUEST_BYTES, HEADER_BYTES = 1_200, 1_500, 250
SHED_SHARE = 16  # one in 16 connections is closed to make room: sorting them takes time
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?:[ \t]*;.*)?", re.DOTALL)

SHOWN = 60  # bytes of an invalid value that a message shows
TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
IN_TIME = f"within {TIMEOUT:.0f} s (minimum rate {MIN_RATE // 2**10} KiB/s)"
OVERLOADED = "server overloaded; retry after 1 s"
CONTINUE = memoryview(b"HTTP/1.1 100 Continue\r\n\r\n")
NOTHING = memoryview(b"")


class State(Enum):
    """What a connection waits for."""

    RECEIVING = auto()  # the rest of a request, or its first byte
    WORKING = auto()  # the application
    SENDING = auto()  # the client to read the reply
    LINGERING = auto()  # the client to stop sending
    CLOSED = auto()


class ReceiveLimits:
    """What all connections share: the limits of a request, and of their memory.

    script_name: the path prefix of all routes
    """

    def __init__(self, config: Config, max_body_bytes: int, script_name: str = "") -> None:
        self.config, self.max_body_bytes = config, max_body_bytes
        self.script_name = script_name
        self.keepalive: int = config.keepalive  # seconds between two requests
        self.held = 0  # bytes of large requests and replies, MAX_HELD at most
        self.small = 0  # all other bytes of all connections, about MAX_SMALL at most


@dataclass(eq=False, slots=True)
class Connection:
    """The HTTP state of one client connection.

    The owner of the socket passes in what it receives and the current time, and sends
    `outgoing`. Times are seconds of time.monotonic.
    """

    address: Address
    server: Address
    limits: ReceiveLimits
    started: float  # beginning of the current wait
    state: State = State.RECEIVING
    received: ReceiveBuffer = field(default_factory=ReceiveBuffer)
    outgoing: memoryview = NOTHING
    is_blocked: bool = False  # the socket took a part of `outgoing`
    closes: bool = False  # after the reply
    request: Request | None = None  # from its head to the end of its reply
    n_requests: int = 0
    chunk_start: int = 0  # index in received.data
    n_chunks: int = 0
    n_received: int = 0  # bytes of the current request
    n_sent: int = 0  # bytes of the current reply
    held: int = 0  # bytes that count in limits.held
    small: int = 0  # bytes that count in limits.small
    last_received: float = inf
    check_at: float = inf  # time of the entry in a DeadlineQueue

    def __post_init__(self) -> None:
        self._hold(0)

    def __str__(self) -> str:
        """Describe the connection for the log."""
        return (
            f"client {self.client}, state {self.state.name.lower()}, "
            f"request {self.request.id if self.request else None}, "
            f"{self.n_received} bytes received, {self.n_sent} bytes sent, "
            f"{len(self.outgoing)} bytes to send"
        )

    @property
    def client(self) -> str:
        """The client's address without its port."""
        return self.request.client if self.request else host(self.address)

    @property
    def environ(self) -> WSGIEnvironment:
        """What is known of a request that is refused before it has a WSGI environ."""
        request = self.request
        return {
            "REQUEST_METHOD": request.method if request else OTHER,
            "PATH_INFO": request.path if request else OTHER,
            "REMOTE_ADDR": self.client,
            REQUEST_ID: request.id if request else new_request_id(),
            "HTTP_ORIGIN": request.origin if request else "",
            RECEIVED_AT: self.started,
        }

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a request has arrived."""
        return self.state is State.RECEIVING and self.request is None and not self.received.data

    @property
    def is_incomplete(self) -> bool:
        """Whether only a part of a request has arrived."""
        return self.state is State.RECEIVING and not self.is_idle

    @property
    def deadline(self) -> float:
        """When the connection times out; infinite while the application works."""
        if self.state is State.RECEIVING:
            if self.n_requests and self.is_idle:
                return self.started + self.limits.keepalive
            extended = self.started + TIMEOUT + self.n_received / MIN_RATE
            # earlier bytes do not extend a silence
            return min(extended, self.last_received + TIMEOUT)
        if self.state is State.SENDING:
            return self.started + TIMEOUT + self.n_sent / MIN_RATE
        if self.state is State.LINGERING:
            return self.started + LINGER_TIMEOUT
        return inf

    def receive(self, data: memoryview | bytes, now: float) -> None:
        """Add bytes from the client; discard them if it lingers."""
        if self.state is State.RECEIVING:
            if self.is_idle:
                self.started = now
            self.last_received = now
            self.n_received += len(data)
            self.received.data += data

    def parse(self) -> Request | None:
        """Return the next request once it is complete, and be WORKING.

        Sets `outgoing` if the client waits for "100 Continue". Raises Refusal for a
        request that is malformed or too large.
        """
        self.request = self.request or self._parse_head()
        is_complete = self.request is not None and self._follow_body(self.request)
        n = len(self.received.data)
        # a small request that is complete is answered soon
        fits = (is_complete and n <= MIN_HELD) or self._hold(n)
        if self.request is None:
            return None
        if is_complete:
            self.state = State.WORKING
            return self.request
        if not fits:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, OVERLOADED)
        if self.request.expects_continue():
            self.outgoing = CONTINUE
        return None

    def _parse_head(self) -> Request | None:
        data = self.received.data
        if data.startswith(FIRST_BYTES):
            raise OtherProtocol(data)
        end = data.find(HEAD_END)
        if (end if end >= 0 else len(data)) > MAX_HEAD_BYTES:
            detail = f"request headers exceed {MAX_HEAD_BYTES:,} bytes; send fewer headers"
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        # a head whose lines end with LF alone is an error that the parser reports
        if end < 0 and b"\n\n" not in data:
            return None
        self.n_requests += 1
        self.chunk_start = self.n_chunks = 0
        script_name = self.limits.script_name
        return Request(
            self.limits.config, self.received, self.address, self.n_requests, script_name
        )

    def _follow_body(self, request: Request) -> bool:
        """Return whether the body is complete. Raises Refusal if it is too large."""
        data, length = self.received.data, request.content_length
        if length is not None:
            size, is_complete = length, len(data) >= length
        else:
            self.chunk_start, n, is_complete = follow_chunks(data, self.chunk_start)
            self.n_chunks += n
            # bytes after a complete body belong to the next request
            size = max(self.chunk_start, 0 if is_complete else len(data))
        if size > (most := self.limits.max_body_bytes):
            raise Refusal(TOO_LARGE, f"request body exceeds {most:,} bytes; send less per request")
        if self.n_chunks > MAX_CHUNKS:
            detail = f"request body has over {MAX_CHUNKS:,} chunks; send larger chunks"
            raise Refusal(TOO_LARGE, detail)
        return is_complete

    def _hold(self, n: int) -> bool:
        """Count n buffered bytes as held; return whether they are small or within MAX_HELD."""
        large = n if n > MIN_HELD else 0
        small = 0
        if self.state is not State.CLOSED:
            small = CONNECTION_BYTES + n - large
            if self.request:
                small += REQUEST_BYTES + HEADER_BYTES * len(self.request.headers)
        self.limits.held += large - self.held
        self.limits.small += small - self.small
        self.held, self.small = large, small
        return large == 0 or self.limits.held <= MAX_HELD

    def respond(self, reply: bytes | memoryview, closes: bool, now: float) -> None:
        """Start to send a whole reply; after one that closes, nothing more is read."""
        if self.held:
            self._hold(len(reply))
        if closes:
            self.received.data.clear()
        self.outgoing, self.closes = memoryview(reply), closes
        self.state = State.SENDING
        self.started, self.n_sent = now, 0

    def sent(self, n: int, now: float) -> bool:
        """Remove n bytes from `outgoing`; return whether that completes a reply."""
        if self.state is not State.SENDING:
            self.outgoing = NOTHING  # "100 Continue" is sent once, or not at all
            return False
        self.n_sent += n
        self.is_blocked = n < len(self.outgoing)
        if self.is_blocked:
            self.outgoing = self.outgoing[n:]
            self._hold(len(self.outgoing))
            return False
        self.outgoing, self.request = NOTHING, None
        self.n_received = len(self.received.data)
        self._hold(self.n_received)
        self.started = self.last_received = now
        self.state = State.LINGERING if self.closes else State.RECEIVING
        return True

    def time_out(self) -> Refusal | None:
        """Return the refusal of a request that is incomplete, if there is one."""
        if not self.is_incomplete:
            return None
        part = "body" if self.request else "headers"
        detail = f"request timeout: {part} not received {IN_TIME}"
        return Refusal(HTTPStatus.REQUEST_TIMEOUT, detail)

    def close(self) -> None:
        """Release the buffers."""
        self.state = State.CLOSED
        self._hold(0)
        self.received.data.clear()
        self.outgoing, self.request = NOTHING, None


def expendable(connections: Iterable[Connection], fresh_after: float) -> list[Connection]:
    """Return the connections to close when memory or sockets run out, in this order.

    The connections that have been idle longest come first, except those opened after
    `fresh_after`; then the oldest incomplete requests and unsent replies, whose clients
    are least likely to be normal; the fresh ones come last.
    Requests that are being computed are left out, and so are large ones, which have a
    bound of their own.
    """

    def order(c: Connection) -> tuple[int, float]:
        if c.is_idle and c.started > fresh_after:
            return 2, c.started
        return not (c.is_idle or c.state is State.LINGERING), c.started

    closable = [c for c in connections if c.state is not State.WORKING and not c.held]
    return sorted(closable, key=order)[: 1 + len(closable) // SHED_SHARE]


def follow_chunks(data: bytearray, start: int) -> tuple[int, int, bool]:
    """Follow the chunks of a body (RFC 9112, 7.1) from the one that begins at `start`.

    Returns the index at which the next chunk begins, the number of chunks, and whether
    the body is complete. Raises Refusal for a malformed chunk, before the parser meets it:
    the parser judges by the bytes that have arrived, and accepts sizes of any length.
    """
    n = 0
    while start < len(data):
        n += 1
        line = data.find(b"\r\n", start, start + MAX_CHUNK_LINE)
        if line < 0 and len(data) - start < MAX_CHUNK_LINE:
            return start, n, False
        match = CHUNK_SIZE.fullmatch(data, start, max(line, start))
        if not match:
            shown = bytes(data[start : start + SHOWN]).partition(b"\r\n")[0]
            detail = (
                f"malformed HTTP request: invalid chunk size {shown!r}; send 1 to 16 hex digits"
            )
            raise Refusal(HTTPStatus.BAD_REQUEST, detail)
        size = int(match[1], 16)
        if size == 0:
            # the trailers, if any, end with an empty line, as the headers do
            end = data.find(HEAD_END, line, line + MAX_HEAD_BYTES)
            if end < 0 and len(data) - line >= MAX_HEAD_BYTES:
                detail = f"request trailers exceed {MAX_HEAD_BYTES:,} bytes; send fewer trailers"
                raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            return start, n, end >= 0
        start = line + 2 + size + 2
    return start, n, False
