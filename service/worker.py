"""The gunicorn worker: one loop collects whole requests and answers the quick ones."""

import contextlib
import os
import queue
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Any

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

from service.door import QUICK_ONLY, NotQuick
from service.limits import MAX_BYTES, MAX_HEAD_BYTES
from service.problems import MEDIA_TYPE, document

PATIENCE = 10.0  # seconds: to send a request, to take a reply, or to stay silent
SLOWEST = 32 * 2**10  # bytes a second, which earn a client more time than that
LINGER = 2.0  # seconds for a client to read the reply to what it is still sending
TICK = 1.0  # seconds between two looks at the deadlines

RECEIVED_AT_ONCE = 2**16  # bytes
COUNTED = 2**16  # bytes: requests of more share MAX_COLLECTED
MAX_COLLECTED = 64 * 2**20  # bytes of requests, whole or not, that have no reply yet
MAX_WORKING = 64  # requests handed to the threads and not answered yet
SPARE_FILES = 64  # descriptors that are not for connections
PAUSE = 0.001  # seconds between taking connections, in which other workers take some

# Seconds a thread may keep the interpreter while others want it. With Python's own
# 5 ms, every system call of the loop would wait so long beside one busy thread.
SWITCH_INTERVAL = 0.0005

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_CHUNK_LINE = 2**13


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
        """Take `size` bytes, or all that is here; less is here only at the end."""
        end = len(self.data) if size is None or size < 0 else size
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
        self.total = 0  # bytes received of this request, or sent of its reply
        self.counted = 0  # bytes of it that count against MAX_COLLECTED
        self.since = time.monotonic()
        self.reply = memoryview(b"")
        self.waits_to_send = False
        self.closes = False  # after the reply

    def deadline(self) -> float:
        """Tell when this client will have been too slow."""
        if self.state is State.LINGERING:
            return self.since + LINGER
        return self.since + PATIENCE + self.total / SLOWEST


class Answer:
    """A request that the application has been called for, and its reply so far."""

    def __init__(
        self, connection: Connection, response: wsgi.Response, environ: dict[str, Any]
    ) -> None:
        self.connection, self.response, self.environ = connection, response, environ
        self.body: Iterable[bytes] = ()
        self.since = time.monotonic()


class CollectingWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Serves many connections from one loop, and long work from a few threads.

    The loop reads what clients send without ever waiting for one of them. A request
    runs when all of it is here, so that a slow client costs a buffer and no thread. The
    application is called in the loop, where no handover delays the answer; it raises
    NotQuick for what would take long, which then runs in a thread. Replies go out in
    one piece, as fast as the client takes them.
    """

    alive: bool
    next_look = 0.0

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Stop the start if asked for what is not done here, instead of ignoring it."""
        if cfg.is_ssl:
            sys.exit("digits: TLS is not spoken here; leave it to a proxy in front")

    def init_process(self) -> None:
        """Set up the loop in the worker's own process, and run it."""
        self.poller = selectors.DefaultSelector()
        self.threads = ThreadPoolExecutor(self.cfg.threads)
        self.done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.connections: set[Connection] = set()
        self.pipelined: list[Connection] = []  # whose next request is here already
        self.answers: list[Answer] = []  # begun in this turn
        self.collected = self.working = 0
        self.share = 1  # connections to take at once
        self.pause_ends = 0.0
        self.buffer = memoryview(bytearray(RECEIVED_AT_ONCE))
        self.max_connections = max(1, _files_allowed() - SPARE_FILES)
        sys.setswitchinterval(SWITCH_INTERVAL)
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop; then answer what has begun, and end."""
        # signals write to this pipe, and so do threads that are done
        self.poller.register(self.PIPE[0], selectors.EVENT_READ, self._woken)
        for listener in self.sockets:
            listener.setblocking(False)
        self._listen()
        while self.alive and self.ppid == os.getppid():
            self._turn()
        self.alive = False
        if not self.pause_ends:
            self._unlisten()
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
        ready, self.pipelined = self.pipelined, []
        timeout = 0 if ready else PAUSE if self.pause_ends else TICK
        for key, _ in self.poller.select(timeout):
            if isinstance(key.data, Connection):
                self._safely(key.data, self._attend)
            else:
                key.data()
        for connection in ready:
            if connection in self.connections:
                self._safely(connection, self._collect)
        # The application has seen all requests of this turn before it must answer the
        # first one, and can answer them together.
        answers, self.answers = self.answers, []
        for answer in answers:
            self._finish(answer)
            self._safely(answer.connection, self._reply, answer)
        now = time.monotonic()
        if self.alive and 0 < self.pause_ends <= now:
            self._listen()
        if now >= self.next_look:
            self.next_look = now + TICK
            self._cut_the_slow(now)

    def _safely(
        self, connection: Connection, step: Callable[..., None], *arguments: Answer
    ) -> None:
        """Take one step with a connection: a fault of ours ends it, and no other."""
        try:
            step(*arguments or (connection,))
        except Exception:
            self.log.exception("a connection failed, and was closed")
            self._close(connection)

    def _woken(self) -> None:
        """Send the replies of threads that are done."""
        os.read(self.PIPE[0], 4096)
        while not self.done.empty():
            answer = self.done.get()
            self.working -= 1
            connection = answer.connection
            self.poller.register(connection.socket, selectors.EVENT_READ, connection)
            self._safely(connection, self._reply, answer)

    def _cut_the_slow(self, now: float) -> None:
        for connection in list(self.connections):
            if connection.state is State.WORKING or now < connection.deadline():
                continue
            if connection.state is State.RECEIVING and not _is_silent(connection):
                self._refuse(
                    connection,
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the request was not whole after {now - connection.since:.0f} s; "
                    "send it faster",
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
        """Take some new connections, and leave some to the other workers.

        Of many that come at once, the first worker to wake up would take all. So each
        takes one and pauses; one that finds more each time takes twice as many.
        """
        taken = 0
        while taken < self.share and self._accept(listener):
            taken += 1
        self.share = 2 * self.share if taken == self.share else 1
        if self.cfg.workers > 1:
            self._unlisten()
            self.pause_ends = time.monotonic() + PAUSE

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection, if there is one."""
        try:
            sock, address = listener.accept()
        except OSError:
            # another worker has it, or its client has left
            return False
        sock.setblocking(False)
        if len(self.connections) >= self.max_connections:
            idlest = min(
                (c for c in self.connections if c.state is not State.WORKING),
                key=lambda c: c.since,
                default=None,
            )
            if idlest is not None:
                self._close(idlest)
        connection = Connection(sock, address, listener.getsockname())
        self.connections.add(connection)
        self.poller.register(sock, selectors.EVENT_READ, connection)
        return True

    def _attend(self, connection: Connection) -> None:
        """See to a connection whose socket is ready for what it waits for."""
        if connection.state is State.SENDING:
            self._send(connection)
            return
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
            if _is_silent(connection):
                connection.since = time.monotonic()
            connection.total += n
            connection.received.data += self.buffer[:n]
            self._collect(connection)

    def _collect(self, connection: Connection) -> None:
        """Answer the request if all of it is here, or make sure it may go on."""
        data = connection.received.data
        if connection.request is None:
            if b"\r\n\r\n" not in data:
                if len(data) > MAX_HEAD_BYTES:
                    self._refuse_unreadable(
                        connection, LimitRequestHeaders("the head is too long")
                    )
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
            connection.chunk = 0
            data = connection.received.data
        request = connection.request
        reader = request.body.reader
        if isinstance(reader, LengthReader):
            is_whole, size = len(data) >= reader.length, reader.length
        else:
            connection.chunk, is_whole = end_of_chunks(data, connection.chunk)
            size = len(data)
        if size > MAX_BYTES:
            self._refuse(
                connection,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the request is larger than {MAX_BYTES:,} bytes; send less at once",
            )
            return
        fits = self._count(connection, len(data))
        if is_whole:
            request._expected_100_continue = False
            self._answer(connection, request)
        elif not fits:
            self._refuse_busy(connection)
        elif request._expected_100_continue:
            request._expected_100_continue = False
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
        response, environ = wsgi.create(
            request, Outgoing(), connection.address, connection.server, self.cfg
        )
        environ["wsgi.multithread"] = environ[QUICK_ONLY] = True
        if not self.alive:
            response.force_close()
        answer = Answer(connection, response, environ)
        connection.state = State.WORKING
        try:
            answer.body = self.wsgi(environ, response.start_response)
        except NotQuick:
            self._hand_over(answer)
        except Exception:
            self._fail(answer)
            self._reply(answer)
        else:
            self.answers.append(answer)

    def _hand_over(self, answer: Answer) -> None:
        """Leave an answer to a thread, which wakes the loop when it has it."""
        if self.working >= MAX_WORKING:
            self._refuse_busy(answer.connection)
            return
        self.working += 1
        self.poller.unregister(answer.connection.socket)
        del answer.environ[QUICK_ONLY]
        self.threads.submit(self._work, answer)

    def _work(self, answer: Answer) -> None:
        try:
            answer.body = self.wsgi(answer.environ, answer.response.start_response)
            self._finish(answer)
        except Exception:
            self._fail(answer)
        finally:
            self.done.put(answer)
            # a pipe that is full of wake-ups needs no more of them
            with contextlib.suppress(BlockingIOError):
                os.write(self.PIPE[1], b".")

    def _finish(self, answer: Answer) -> None:
        """Leave the application's whole reply in the response."""
        try:
            for data in answer.body:
                answer.response.write(data)
            answer.response.close()
        except Exception:
            self._fail(answer)
        finally:
            if hasattr(answer.body, "close"):
                answer.body.close()

    def _fail(self, answer: Answer) -> None:
        """Log that the application failed, and say so in place of its reply."""
        response = answer.response
        self.log.exception("the application failed on %s", answer.environ["PATH_INFO"])
        response.sock.data[:] = _problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "the service failed on this request; the fault is ours",
        )
        response.status = "500 Internal Server Error"
        response.force_close()

    def _reply(self, answer: Answer) -> None:
        """Send a reply, and make ready for the connection's next request."""
        connection, response = answer.connection, answer.response
        duration = timedelta(seconds=time.monotonic() - answer.since)
        self.log.access(response, response.req, answer.environ, duration)
        closes = response.should_close()
        try:
            while response.req.body.read(RECEIVED_AT_ONCE):
                pass  # what the application did not read
        except (ParseException, NoMoreData):
            closes = True
        connection.request = None
        self._count(connection, 0)
        self._put(connection, response.sock.data, closes)

    def _put(self, connection: Connection, reply: bytes, closes: bool) -> None:
        connection.reply, connection.closes = memoryview(reply), closes
        connection.state = State.SENDING
        connection.since, connection.total = time.monotonic(), 0
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
        connection.since, connection.total = time.monotonic(), 0
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
        connection.request = None
        connection.received.data.clear()
        self._put(connection, _problem(status, detail, headers), closes=True)

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
        if connection not in self.connections:
            return  # what came in the same turn has closed it
        self._count(connection, 0)
        self.connections.discard(connection)
        self.poller.unregister(connection.socket)
        connection.socket.close()


def end_of_chunks(data: bytearray, start: int) -> tuple[int, bool]:
    """Follow the chunks of a body (RFC 9112, 7.1) from the one that begins at `start`.

    Gives where the next one begins, and whether the body is whole. Malformed ones end
    the body: who reads them will say what is wrong.
    """
    while start < len(data):
        line = data.find(b"\r\n", start, start + MAX_CHUNK_LINE)
        if line < 0:
            return start, len(data) - start >= MAX_CHUNK_LINE
        try:
            size = int(bytes(data[start:line]).partition(b";")[0], 16)
        except ValueError:
            return start, True
        if size <= 0:
            # trailers, if any, end with an empty line, as a head does
            return start, size < 0 or data.find(b"\r\n\r\n", line) >= 0
        start = line + 2 + size + 2
    return start, False


def _is_silent(connection: Connection) -> bool:
    """Tell whether nothing of a request has come."""
    return (
        connection.state is State.RECEIVING
        and connection.request is None
        and not connection.received.data
    )


def _problem(status: HTTPStatus, detail: str, headers: str = "") -> bytes:
    """Write a whole reply that refuses a request."""
    body = document(status, detail)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


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
