"""The gunicorn worker: one loop collects whole requests and answers the quick ones."""

import contextlib
import ctypes
import mmap
import os
import queue
import re
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from math import inf
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
)
from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader
from gunicorn.workers.base import Worker

from service.server.balancing import SLOTS
from service.server.metrics import OTHER, Metrics
from service.server.wsgi_keys import DEFER, RECEIVED_AT, REQUEST_ID, STOPPING
from service.settings import DEFAULT_LIMITS

PATIENCE = 10.0  # seconds: to send a request, to take a reply, or to stay silent
SLOWEST = 32 * 2**10  # bytes a second, which earn a client more time than that
LINGER = 2.0  # seconds for a client to read the reply to what it is still sending
TICK = 1.0  # seconds between two looks at the deadlines

RECEIVED_AT_ONCE = 2**16  # bytes
COUNTED = 2**16  # bytes: requests of more share MAX_COLLECTED
MAX_COLLECTED = 64 * 2**20  # bytes of requests, whole or not, that have no reply yet
MAX_WORKING = 64  # requests handed to the threads and not answered yet
SPARE_FILES = 64  # descriptors that are not for connections
TAKEN_AT_ONCE = 64  # new connections, before those that are open are heard again
AHEAD = 3  # connections that a worker may have more than another one
PAUSE = 0.001  # seconds that it then leaves new ones to the others

# Seconds a thread may keep the interpreter while others want it. With Python's own
# 5 ms, every system call of the loop would wait so long beside one busy thread.
SWITCH_INTERVAL = 0.0005

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
LARGE_BLOCK = 2**20  # bytes: the arrays of a picture's reading are smaller

OUR_FAULT = "internal server error: the service failed on this request"
MAX_HEAD_BYTES = 64 * 2**10  # of a request's line and headers
ErrorReply = Callable[[HTTPStatus, str], tuple[list[tuple[str, str]], bytes]]
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
HEAD_END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
READ_AT_ONCE = 2**13  # bytes; gunicorn copies what is left of them for every chunk
MAX_CHUNK_LINE = 2**13
ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
MAX_CHUNKS = 2**14  # in a body: each costs what a kilobyte of a long one does
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?:[ \t]*;.*)?", re.DOTALL)


def plain_error(status: HTTPStatus, detail: str) -> tuple[list[tuple[str, str]], bytes]:
    """Return an error as plain text, for applications that have no format of it."""
    return [("Content-Type", "text/plain; charset=utf-8")], f"{detail}\n".encode()


class Deferred(NamedTuple):
    """A reply that takes long: a function that returns its WSGI body."""

    call: Callable[[], Iterable[bytes]]


class State(Enum):
    """What a connection waits for."""

    RECEIVING = auto()  # the rest of a request, or its first byte
    WORKING = auto()  # a thread
    SENDING = auto()  # its client to take the reply
    LINGERING = auto()  # its client to stop sending


class Received(Unreader):  # type: ignore[misc]
    """What a client has sent and no request has taken: reading it never waits."""

    def __init__(self) -> None:
        self.data = bytearray()

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        """Take `size` bytes, or as many as a read of a socket might give."""
        end = READ_AT_ONCE if size is None else size
        taken = bytes(self.data[:end])
        del self.data[:end]
        return taken

    def unread(self, data: bytes) -> None:
        """Put back what was taken too much."""
        self.data[:0] = data


class Outgoing:
    """Stands for the socket while a reply is written, and keeps it in one piece."""

    def __init__(self) -> None:
        self.data = bytearray()

    def sendall(self, data: bytes) -> None:
        """Keep the data."""
        self.data += data

    send = sendall


class Connection:
    """A client's connection, and how far its request and its reply have come."""

    __slots__ = (
        "address",
        "chunk",
        "closes",
        "counted",
        "latest",
        "n_chunks",
        "n_requests",
        "received",
        "reply",
        "request",
        "server",
        "since",
        "socket",
        "state",
        "total",
        "waits_to_send",
    )

    def __init__(self, sock: socket.socket, address: Any, server: Any) -> None:
        self.socket, self.address, self.server = sock, address, server
        self.state = State.RECEIVING
        self.received = Received()
        self.request: Request | None = None  # once its head is here
        self.n_requests = 0
        self.chunk = 0  # index in received.data at which the next chunk begins
        self.n_chunks = 0
        self.total = 0  # bytes received of this request, or sent of its reply
        self.counted = 0  # bytes of it that count against MAX_COLLECTED
        self.since = self.latest = time.monotonic()  # began to wait, was last heard of
        self.reply = memoryview(b"")
        self.waits_to_send = False
        self.closes = False  # after the reply

    def deadline(self) -> float:
        """Tell when this client will have been too slow."""
        if self.state is State.LINGERING:
            return self.since + LINGER
        earned = self.since + PATIENCE + self.total / SLOWEST
        # what has been sent earns no silence
        return min(earned, self.latest + PATIENCE)


class Answer:
    """A request that the application has been called for, and its reply so far."""

    def __init__(
        self, connection: Connection, response: wsgi.Response, environ: dict[str, Any]
    ) -> None:
        self.connection, self.response, self.environ = connection, response, environ
        self.body: Iterable[bytes] = ()
        self.since = time.monotonic()


class Board:
    """Memory that all workers share: how many connections each has, and since when."""

    STALE = 2 * TICK  # seconds after which a worker is taken for dead

    def __init__(self) -> None:
        memory = mmap.mmap(-1, 2 * SLOTS * struct.calcsize("d"))
        self._values = memoryview(memory).cast("d")
        self._rows = np.frombuffer(memory).reshape(SLOTS, 2)

    def post(self, slot: int, n: int) -> None:
        """Tell the others that the worker of a slot has n connections now."""
        self._values[2 * slot], self._values[2 * slot + 1] = n, time.monotonic()

    def fewest(self, own: int) -> float:
        """Give the least that another one has, or infinity if there is no other."""
        counts, times = self._rows.T
        is_other = times > time.monotonic() - self.STALE
        is_other[own] = False
        return float(counts[is_other].min(initial=inf))


class CollectingWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Serves many connections from one loop, and long work from a few threads.

    The loop reads what clients send without ever waiting for one of them. A request
    runs when all of it is here, so that a slow client costs a buffer and no thread. The
    application is called in the loop, where no handover delays the answer; it raises
    NotQuick for what would take long, which then runs in a thread. Replies go out in
    one piece, as fast as the client takes them.
    """

    alive: bool
    slot: int
    board: Board
    # what the hooks of gunicorn.conf.py set
    metrics: Metrics | None = None
    max_body_bytes = DEFAULT_LIMITS.max_bytes
    # called once a second: a worker without requests has new weights too
    poll: Callable[[], object] = staticmethod(lambda: None)
    # the headers and the body of a reply that refuses a request, by status and detail
    error_reply: ErrorReply = staticmethod(plain_error)
    next_look = 0.0
    # What reached this process between the fork and the worker's own handlers, where
    # the master's are still in place: without it, a stop in that moment is lost.
    early_signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def __init__(self, age: int, *settings: Any) -> None:
        super().__init__(age, *settings)
        self.slot = age % SLOTS  # for who has no better one

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Stop the start if asked for what is not done here, instead of ignoring it."""
        if cfg.is_ssl:
            sys.exit("digits: TLS is not spoken here; leave it to a proxy in front")
        cls.board = Board()  # in the master, before it forks

    def init_process(self) -> None:
        """Set up the loop in the worker's own process, and run it."""
        self.poller = selectors.DefaultSelector()
        self.threads = ThreadPoolExecutor(self.cfg.threads)
        self.done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.connections: set[Connection] = set()
        self.pipelined: list[Connection] = []  # whose next request is here already
        self.answers: list[Answer] = []  # begun in this turn
        self.collected = self.working = 0
        self.pause_ends = 0.0
        self.buffer = memoryview(bytearray(RECEIVED_AT_ONCE))
        self.max_connections = max(1, _files_allowed() - SPARE_FILES)
        sys.setswitchinterval(SWITCH_INTERVAL)
        _give_memory_back()
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop; then answer what has begun, and end."""
        # signals write to this pipe, and so do threads that are done
        self.poller.register(self.PIPE[0], selectors.EVENT_READ, self._woken)
        for listener in self.sockets:
            listener.setblocking(False)
        self._listen()
        while not self.early_signals.empty():
            if self.early_signals.get() in ENDING:
                self.alive = False
        while self.alive and self.ppid == os.getppid():
            self._turn()
        self.alive = False
        if not self.pause_ends:
            self._unlisten()
        self.pause_ends = 0.0
        for listener in self.sockets:
            # clients that the kernel has accepted already are not sent away
            while self._accept(listener):
                pass
            listener.close()
        end = time.monotonic() + self.cfg.graceful_timeout
        patience = time.monotonic() + LINGER
        while self.connections and time.monotonic() < end:
            self._turn()
            if time.monotonic() > patience:
                for connection in list(self.connections):
                    if _is_silent(connection):
                        self._close(connection)
        self.threads.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        """Wait for something to happen, for a tick at most, and see to it."""
        self.notify()
        timeout = PAUSE if self.pause_ends else TICK
        pipelined, self.pipelined = self.pipelined, []
        for connection in pipelined:
            self._safely(connection, self._collect, connection)
        for key, _ in self.poller.select(0 if pipelined else timeout):
            if isinstance(key.data, Connection):
                self._safely(key.data, self._attend, key.data)
            else:
                key.data()
        # The application has seen all requests of this turn before it must answer the
        # first one, and can answer them together.
        answers, self.answers = self.answers, []
        for answer in answers:
            self._safely(answer.connection, self._complete, answer)
        now = time.monotonic()
        self.board.post(self.slot, len(self.connections))
        if self.alive and 0 < self.pause_ends <= now:
            self._listen()
        if now >= self.next_look:
            self.next_look = now + TICK
            self._cut_the_slow(now)
            self.poll()
        if self.metrics:
            self.metrics.set("digits_connections", len(self.connections))
            self.metrics.set("digits_requests_in_work", self.working)

    def _safely(
        self, connection: Connection, step: Callable[..., None], *a: Any
    ) -> None:
        """Take one step with a connection: a fault of ours ends it, and no other."""
        if connection not in self.connections:
            return  # what came before it in this turn has ended it
        try:
            step(*a)
        except Exception:
            self.log.exception("a connection failed, and was closed")
            self._close(connection)

    def _woken(self) -> None:
        """Send the replies of threads that are done."""
        os.read(self.PIPE[0], 4096)
        while not self.done.empty():
            answer = self.done.get()
            self.working -= 1
            self._safely(answer.connection, self._resume, answer)

    def _resume(self, answer: Answer) -> None:
        connection = answer.connection
        self.poller.register(connection.socket, selectors.EVENT_READ, connection)
        self._reply(answer)

    def _cut_the_slow(self, now: float) -> None:
        for connection in list(self.connections):
            if connection.state is not State.WORKING and now >= connection.deadline():
                self._safely(connection, self._cut, connection)

    def _cut(self, connection: Connection) -> None:
        if connection.state is State.RECEIVING and not _is_silent(connection):
            self._refuse(
                connection,
                HTTPStatus.REQUEST_TIMEOUT,
                f"the request was not whole after {PATIENCE:.0f} s, and comes at less "
                f"than {SLOWEST:,} bytes a second; send it faster",
            )
        else:
            self._close(connection)

    # Receiving

    def _listen(self) -> None:
        self.pause_ends = 0.0
        for listener in self.sockets:
            self.poller.register(
                listener, selectors.EVENT_READ, partial(self._take, listener)
            )

    def _unlisten(self) -> None:
        for listener in self.sockets:
            self.poller.unregister(listener)

    def _take(self, listener: socket.socket) -> None:
        """Take new connections, but leave some to workers that have fewer.

        Of many that come at once, the first worker to wake up would take all, and
        serve them alone for as long as they are kept.
        """
        most = self.board.fewest(self.slot) + AHEAD
        for _ in range(TAKEN_AT_ONCE):
            if not self._accept(listener):
                break
            if len(self.connections) > most:
                self._unlisten()
                self.pause_ends = time.monotonic() + PAUSE
                break

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection, if there is one."""
        try:
            sock, address = listener.accept()
        except OSError:
            # another worker has it, or its client has left
            return False
        sock.setblocking(False)
        if len(self.connections) >= self.max_connections:
            # the one that has been silent for longest, if any is, makes room
            replaceable = (c for c in self.connections if c.state is not State.WORKING)
            with contextlib.suppress(ValueError):
                self._close(
                    min(replaceable, key=lambda c: (not _is_silent(c), c.since))
                )
        connection = Connection(sock, address, listener.getsockname())
        self.connections.add(connection)
        self.board.post(self.slot, len(self.connections))
        self.poller.register(sock, selectors.EVENT_READ, connection)
        return True

    def _attend(self, connection: Connection) -> None:
        """See to a connection whose socket is ready for what it waits for."""
        if connection.state is State.SENDING:
            self._send(connection)
            return
        if connection.state is State.WORKING:
            return  # on a pipelined request; this is for later
        try:
            # into one buffer: new ones of that size would tear holes into the heap
            n = connection.socket.recv_into(self.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            n = 0
        if not n:
            self._close(connection)
        elif connection.state is State.RECEIVING:
            connection.latest = time.monotonic()
            if _is_silent(connection):
                connection.since = connection.latest
            connection.total += n
            connection.received.data += self.buffer[:n]
            self._collect(connection)

    def _collect(self, connection: Connection) -> None:
        """Answer the request if all of it is here, or make sure it may go on."""
        data = connection.received.data
        if connection.request is None:
            end = data.find(HEAD_END)
            if (end if end >= 0 else len(data)) > MAX_HEAD_BYTES:
                error = LimitRequestHeaders(f"more than {MAX_HEAD_BYTES:,} bytes")
                self._refuse_unreadable(connection, error)
                return
            # who ends lines with LF alone is told so, not waited for
            if end < 0 and b"\n\n" not in data:
                return
            connection.n_requests += 1
            try:
                connection.request = Request(
                    self.cfg,
                    connection.received,
                    connection.address,
                    connection.n_requests,
                )
            except (ParseException, NoMoreData) as error:
                self._refuse_unreadable(connection, error)
                return
            connection.chunk = connection.n_chunks = 0
        request = connection.request
        reader = request.body.reader
        if isinstance(reader, LengthReader):
            is_whole, size = len(data) >= reader.length, reader.length
        else:
            connection.chunk, n, is_whole = follow_chunks(data, connection.chunk)
            connection.n_chunks += n
            # what comes after a whole body is another request's
            size = connection.chunk if is_whole else max(len(data), connection.chunk)
        excess = ""
        if size > (most := self.max_body_bytes):
            excess = f"the request is larger than {most:,} bytes; send less at once"
        elif connection.n_chunks > MAX_CHUNKS:
            excess = (
                f"the body comes in more than {MAX_CHUNKS:,} chunks; send longer ones"
            )
        if excess:
            self._refuse(connection, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, excess)
            return
        fits = self._count(connection, len(data))
        if is_whole:
            request._expected_100_continue = False
            self._answer(connection, request)
        elif not fits:
            self._refuse_busy(connection)
        elif request._expected_100_continue:
            request._expected_100_continue = False
            # one that has left, or reads nothing, is seen to by the next turns
            with contextlib.suppress(OSError):
                connection.socket.send(CONTINUE)

    def _count(self, connection: Connection, n: int) -> bool:
        """Count the n bytes a connection holds; tell whether all hold few enough."""
        n = n if n > COUNTED else 0
        self.collected += n - connection.counted
        connection.counted = n
        return n == 0 or self.collected <= MAX_COLLECTED

    # Answering

    def _answer(self, connection: Connection, request: Request) -> None:
        """Run the application on a whole request, here or in a thread."""
        try:
            response, environ = wsgi.create(
                request, Outgoing(), connection.address, connection.server, self.cfg
            )
        except ParseException as error:  # a path outside SCRIPT_NAME
            self._refuse_unreadable(connection, error)
            return
        environ["wsgi.multithread"] = True
        environ[DEFER] = Deferred
        environ[REQUEST_ID] = request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        response.headers.append(("X-Request-ID", environ[REQUEST_ID]))
        if not self.alive:
            environ[STOPPING] = True
            response.force_close()
        answer = Answer(connection, response, environ)
        environ[RECEIVED_AT] = answer.since
        connection.state = State.WORKING
        try:
            body = self.wsgi(environ, response.start_response)
        except Exception:
            self._fail(answer)
            self._reply(answer)
            return
        if isinstance(body, Deferred):
            self._hand_over(answer, body)
        else:
            answer.body = body
            self.answers.append(answer)

    def _hand_over(self, answer: Answer, deferred: "Deferred") -> None:
        """Leave an answer to a thread, which wakes the loop when it has it."""
        if self.working >= MAX_WORKING:
            self._refuse_busy(answer.connection)
            return
        self.working += 1
        self.poller.unregister(answer.connection.socket)
        self.threads.submit(self._work, answer, deferred)

    def _work(self, answer: Answer, deferred: "Deferred") -> None:
        try:
            answer.body = deferred.call()
            self._finish(answer)
        except Exception:
            self._fail(answer)
        finally:
            self.done.put(answer)
            # a pipe that is full of wake-ups needs no more of them
            with contextlib.suppress(BlockingIOError):
                os.write(self.PIPE[1], b".")

    def _complete(self, answer: Answer) -> None:
        self._finish(answer)
        self._reply(answer)

    def _finish(self, answer: Answer) -> None:
        """Leave the application's whole reply in the response."""
        body = answer.response.req.body
        # after a malformed body, nobody knows where the next request begins
        if body.failed:
            answer.response.force_close()
        try:
            for data in answer.body:
                answer.response.write(data)
            answer.response.close()
            while body.read(RECEIVED_AT_ONCE):
                pass  # what the application did not read
        except (ParseException, NoMoreData):
            answer.response.force_close()
        except Exception:
            self._fail(answer)
        finally:
            if hasattr(answer.body, "close"):
                answer.body.close()

    def _fail(self, answer: Answer) -> None:
        """Log that the application failed, and say so in place of its reply."""
        response = answer.response
        self.log.exception(
            "the application failed on %s, request %s",
            answer.environ["PATH_INFO"],
            answer.environ[REQUEST_ID],
        )
        response.sock.data[:] = self._error(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            OUR_FAULT,
            answer.environ[REQUEST_ID],
        )
        response.status = "500 Internal Server Error"
        response.force_close()

    def _reply(self, answer: Answer) -> None:
        """Send a reply, and make ready for the connection's next request."""
        connection, response = answer.connection, answer.response
        self._record(response, response.req, answer.environ, answer.since)
        connection.request = None
        self._count(connection, 0)
        self._put(connection, response.sock.data, response.should_close())

    def _record(
        self, response: Any, request: Any, environ: dict[str, Any], since: float
    ) -> None:
        """Log and count a request that has its reply, whoever has given it."""
        seconds = time.monotonic() - since
        self.log.access(response, request, environ, timedelta(seconds=seconds))
        if self.metrics:
            self.metrics.request(
                environ["PATH_INFO"], request.method, response.status[:3], seconds
            )

    def _put(self, connection: Connection, reply: bytes, closes: bool) -> None:
        connection.reply, connection.closes = memoryview(reply), closes
        connection.state = State.SENDING
        connection.since, connection.latest, connection.total = time.monotonic(), inf, 0
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        """Send as much of the reply as the client takes; then see what is next."""
        try:
            n = connection.socket.send(connection.reply)
        except (BlockingIOError, InterruptedError):
            n = 0
        except OSError:
            self._close(connection)
            return
        connection.reply = connection.reply[n:]
        connection.total += n
        if connection.reply:
            self._wait_to_send(connection, True)
            return
        self._wait_to_send(connection, False)
        connection.reply = memoryview(b"")  # it would hold the whole of it
        connection.since = connection.latest = time.monotonic()
        connection.total = 0
        if connection.closes:
            self._part(connection)
            return
        connection.state = State.RECEIVING
        if connection.received.data:
            connection.total = len(connection.received.data)
            self.pipelined.append(connection)

    def _wait_to_send(self, connection: Connection, waits: bool) -> None:
        if waits is not connection.waits_to_send:
            connection.waits_to_send = waits
            event = selectors.EVENT_WRITE if waits else selectors.EVENT_READ
            self.poller.modify(connection.socket, event, connection)

    # Refusing and ending

    def _refuse(
        self,
        connection: Connection,
        status: HTTPStatus,
        detail: str,
        headers: str = "",
    ) -> None:
        """Answer a request that does not reach the application, and part."""
        self._count(connection, 0)
        request, connection.request = connection.request, None
        asked = dict(request.headers) if request else {}
        path, method = (request.path, request.method) if request else (OTHER, OTHER)
        name = request_id(asked.get("X-REQUEST-ID", ""))
        self._record(
            SimpleNamespace(status=f"{status.value} {status.phrase}"),
            SimpleNamespace(method=method),
            {"PATH_INFO": path, "REMOTE_ADDR": connection.address[0], REQUEST_ID: name},
            connection.since,
        )
        connection.received.data.clear()
        reply = self._error(status, detail, name, headers)
        if method == "HEAD":
            reply = reply[: reply.index(HEAD_END) + len(HEAD_END)]
        self._put(connection, reply, closes=True)

    def _error(
        self, status: HTTPStatus, detail: str, request_name: str, headers: str = ""
    ) -> bytes:
        """Write a whole reply that refuses a request."""
        own, body = self.error_reply(status, detail)
        lines = "".join(f"{name}: {value}\r\n" for name, value in own)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
            f"X-Request-ID: {request_name}\r\n{lines}"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        )
        return head.encode() + body

    def _refuse_busy(self, connection: Connection) -> None:
        self._refuse(
            connection,
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the service is busy with as much as it can hold; send this again shortly",
            "Retry-After: 1\r\n",
        )

    def _refuse_unreadable(self, connection: Connection, error: Exception) -> None:
        status = HTTPStatus.BAD_REQUEST
        if isinstance(error, LimitRequestLine):
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        elif isinstance(error, LimitRequestHeaders):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        elif isinstance(error, ExpectationFailed):
            status = HTTPStatus.EXPECTATION_FAILED
        self._refuse(connection, status, f"this is not HTTP as it should be: {error}")

    def _part(self, connection: Connection) -> None:
        """End our side, and wait for the client to end its own.

        Closing at once would reset the connection while the client is sending, and it
        might never read the reply.
        """
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
        else:
            connection.state = State.LINGERING

    def _close(self, connection: Connection) -> None:
        self._count(connection, 0)
        self.connections.discard(connection)
        with contextlib.suppress(KeyError):  # a thread works for it
            self.poller.unregister(connection.socket)
        connection.socket.close()


def follow_chunks(data: bytearray, start: int) -> tuple[int, int, bool]:
    """Follow the chunks of a body (RFC 9112, 7.1) from the one that begins at `start`.

    Gives where the next one begins, how many there were, and whether the body is whole.
    A malformed one ends the body: who reads it will say what is wrong.
    """
    n = 0
    while start < len(data):
        n += 1
        line = data.find(b"\r\n", start, start + MAX_CHUNK_LINE)
        if line < 0:
            return start, n, len(data) - start >= MAX_CHUNK_LINE
        match = CHUNK_SIZE.fullmatch(data, start, line)
        if not match:
            return start, n, True
        size = int(match[1], 16)
        if size == 0:
            # trailers, if any, end with an empty line, as a head does
            end = data.find(HEAD_END, line, line + MAX_HEAD_BYTES)
            return start, n, end >= 0 or len(data) - line >= MAX_HEAD_BYTES
        start = line + 2 + size + 2
    return start, n, False


def request_id(asked_for: str) -> str:
    """Give the id that a client asks for, or a new one if it is none to be repeated."""
    return asked_for if ID.fullmatch(asked_for) else os.urandom(8).hex()


def _is_silent(connection: Connection) -> bool:
    """Tell whether nothing of a request has come."""
    return (
        connection.state is State.RECEIVING
        and connection.request is None
        and not connection.received.data
    )


def _give_memory_back() -> None:
    """Have large blocks of memory go back to the system as soon as they are freed.

    glibc learns to keep them: after a few bodies of 16 MiB, hundreds of MB for good.
    And one heap does for threads that compute in turns, where each would fill its own.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(parameter, LARGE_BLOCK)
        mallopt(M_ARENA_MAX, 1)


def _files_allowed() -> int:
    """Raise the limit of open files to the most this process may have, and tell it."""
    try:
        import resource
    except ImportError:  # not on this system
        return 1024
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
