"""Event loop that serves many connections from one thread, and slow work from others."""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from queue import SimpleQueue
from wsgiref.types import WSGIApplication, WSGIEnvironment

from gunicorn.glogging import Logger

from service.server.balancing import ConnectionCounts
from service.server.connection import (
    LINGER_TIMEOUT,
    MAX_SMALL,
    OVERLOADED,
    Connection,
    ReceiveLimits,
    State,
    expendable,
)
from service.server.deadlines import DeadlineQueue
from service.server.http import (
    Deferred,
    ErrorReply,
    Exchange,
    OtherProtocol,
    Refusal,
    Request,
    error_response,
    plain_address,
)
from service.server.jobs import MAX_WORKING, Job, Threads, Workload
from service.server.logs import log_request
from service.server.metrics import Metrics
from service.server.wsgi_keys import (
    ADMIT,
    BUSY,
    INTERNAL_ERROR,
    IS_CANCELLED,
    RECEIVED_AT,
    REQUEST_ID,
    ROUTE,
    STOPPING,
)

POLL_INTERVAL = 1.0  # seconds between two checks of the deadlines
WARNING_INTERVAL = 60.0  # seconds between two warnings of one kind
RECEIVE_SIZE = 2**16  # bytes per call of recv
ACCEPT_BATCH = 64  # connections accepted before open ones are read again
MAX_LEAD = 3  # connections that a worker may have more than another one
ACCEPT_PAUSE = 0.001  # seconds in which it then leaves new ones to the others
FRESH = 0.1  # seconds within which the request of a new connection is expected
CLIENT_CLOSED = 499  # nginx's status for a client that left; logged, but never sent


@dataclass(eq=False)
class EventLoop:
    """Accepts connections, receives requests, calls the application, sends replies.

    The application is called once a request is complete, so a slow client costs a
    buffer and no thread. It is called for all requests of one turn before the first of
    their bodies is iterated over, so it can compute these as one batch. It may defer
    a body to a thread.
    """

    application: WSGIApplication
    log: Logger
    listeners: list[socket.socket]  # non-blocking
    # the read and the write end of a non-blocking pipe, which signals write to as well
    wakeup: tuple[int, int]
    limits: ReceiveLimits
    max_connections: int
    error_reply: ErrorReply
    metrics: Metrics
    counts: ConnectionCounts
    slot: int  # of this worker in `counts`
    on_poll: Callable[[], object]  # called once per POLL_INTERVAL

    def __post_init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.workload, self.threads = Workload(), Threads()
        self.sockets: dict[Connection, socket.socket] = {}  # of open connections
        self.deadlines = DeadlineQueue()
        self.buffer = memoryview(bytearray(RECEIVE_SIZE))
        self.pipelined: list[Connection] = []  # with bytes of their next request
        self.begun: list[tuple[Connection, Exchange]] = []  # in this turn
        self.done: SimpleQueue[tuple[Connection, Exchange, Job]] = SimpleQueue()
        self.accepts_again = 0.0  # time at which a pause in accepting ends
        self.next_poll = 0.0
        self.next_warning: dict[str, float] = {}  # about clients of each other protocol
        self.is_stopping = False
        self.selector.register(self.wakeup[0], selectors.EVENT_READ, self.on_wakeup)
        self._resume_accepting()

    def run_once(self) -> None:
        """Wait for events, for POLL_INTERVAL at most, and handle them."""
        pipelined, self.pipelined = self.pipelined, []
        for connection in pipelined:
            self._guard(self.parse, connection, time.monotonic())
        timeout = ACCEPT_PAUSE if self.accepts_again else POLL_INTERVAL
        for key, _ in self.selector.select(0 if pipelined else timeout):
            if isinstance(key.data, Connection):
                self._guard(self.on_ready, key.data)
            else:
                key.data(key.fileobj)
        begun, self.begun = self.begun, []
        for connection, exchange in begun:
            self._guard(self._complete, connection, exchange)
        now = time.monotonic()
        self.counts.publish(self.slot, len(self.sockets), now)
        self.metrics.set("digits_connections", len(self.sockets))
        self.metrics.set("digits_requests_in_work", self.workload.n)
        if 0 < self.accepts_again <= now:
            self._resume_accepting()
        if now >= self.next_poll:
            self.next_poll = now + POLL_INTERVAL
            self.close_expired(now)
            self.on_poll()

    def drain(self, timeout: float) -> None:
        """Stop accepting and finish in-flight requests, within `timeout` seconds."""
        self.is_stopping = True
        if not self.accepts_again:
            self._pause_accepting()
        self.accepts_again = 0.0
        for listener in self.listeners:
            # the kernel has accepted these on our behalf already
            while self.accept(listener):
                pass
            listener.close()
        start = time.monotonic()
        while self.sockets and (spent := time.monotonic() - start) < timeout:
            self.run_once()
            if spent > LINGER_TIMEOUT:
                for connection in [c for c in self.sockets if c.is_idle]:
                    self.close(connection)

    def _guard(self, step: Callable[..., None], to: Connection, *rest: object) -> None:
        """Take a step with an open connection; close only this connection if it fails.

        Nothing is logged if the client has left.
        """
        if to not in self.sockets:
            return  # an earlier step of this turn has closed it
        try:
            step(to, *rest)
        except (ConnectionError, TimeoutError):
            self.close(to)
        except Exception:
            self.log.exception("closing connection after an error: %s", to)
            self.close(to)

    # Accept

    def _resume_accepting(self) -> None:
        self.accepts_again = 0.0
        for listener in self.listeners:
            self.selector.register(listener, selectors.EVENT_READ, self.on_acceptable)

    def _pause_accepting(self) -> None:
        for listener in self.listeners:
            self.selector.unregister(listener)

    def on_acceptable(self, listener: socket.socket) -> None:
        """Accept connections, but leave some to workers that have fewer.

        The first worker to wake up would otherwise accept all that arrive at once, and
        serve them alone for as long as they are kept alive.
        """
        most = MAX_LEAD + self.counts.fewest_elsewhere(self.slot, time.monotonic())
        for _ in range(ACCEPT_BATCH):
            if not self.accept(listener):
                break
            if len(self.sockets) > most:
                self._pause_accepting()
                self.accepts_again = time.monotonic() + ACCEPT_PAUSE
                break

    def accept(self, listener: socket.socket) -> bool:
        """Accept one connection; return whether there was one."""
        try:
            sock, address = listener.accept()
        except OSError:
            return False  # another worker has accepted it, or its client has left
        sock.setblocking(False)
        now = time.monotonic()
        if len(self.sockets) >= self.max_connections:
            self._make_room(now, fresh=0)
        server = plain_address(listener.getsockname())
        connection = Connection(plain_address(address), server, self.limits, now)
        self.sockets[connection] = sock
        self.counts.publish(self.slot, len(self.sockets), now)
        self.selector.register(sock, selectors.EVENT_READ, connection)
        self.deadlines.schedule(connection)
        if self.limits.small > MAX_SMALL:
            self._make_room(now)
        return True

    def _make_room(self, now: float, fresh: float = FRESH) -> None:
        """Close the connections that have been idle longest, or refuse the oldest requests."""
        for connection in expendable(self.sockets, now - fresh):
            if connection.is_incomplete:
                refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, OVERLOADED)
                self._guard(self.refuse, connection, refusal, now)
            else:
                self.close(connection)

    # Receive

    def on_ready(self, connection: Connection) -> None:
        """Send or receive, whichever the connection waits for."""
        if connection.state is State.SENDING:
            self.flush(connection)
        elif connection.state is not State.WORKING:  # else it has been parsed just now
            self.on_readable(connection)

    def on_readable(self, connection: Connection) -> None:
        """Receive what has arrived, and parse it."""
        try:
            # one buffer for all: allocating one per call fragments the heap
            n = self.sockets[connection].recv_into(self.buffer)
        except BlockingIOError:
            return
        if not n:
            self.close(connection)
            return
        now = time.monotonic()
        connection.receive(self.buffer[:n], now)
        if connection.state is State.RECEIVING:
            self.parse(connection, now)

    def parse(self, connection: Connection, now: float) -> None:
        """Dispatch the next request if it is complete, or refuse it."""
        try:
            request = connection.parse()
            if request is not None:
                self.dispatch(connection, request, now)
                return
            self.deadlines.schedule(connection)  # earlier than that of an idle connection
            if connection.outgoing:
                self.flush(connection)
        except Refusal as refusal:
            self.refuse(connection, refusal, now)
        if self.limits.small > MAX_SMALL:
            self._make_room(now)

    # Dispatch

    def dispatch(self, connection: Connection, request: Request, now: float) -> None:
        """Call the application; leave its body to a thread if it defers that."""
        exchange = Exchange(request, connection.address, connection.server, self.limits.config)
        exchange.environ[RECEIVED_AT] = now
        if self.is_stopping:
            exchange.environ[STOPPING] = True
            exchange.response.force_close()
        if self.workload.is_high:
            exchange.environ[BUSY] = True
        try:
            exchange.call(self.application)
        except Exception:
            self._fail(exchange)
            self._reply(connection, exchange)
            return
        if not isinstance(exchange.body, Deferred):
            self.begun.append((connection, exchange))
        elif self.workload.n >= MAX_WORKING:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, OVERLOADED)
        else:
            self._defer(connection, exchange, exchange.body.cost)

    def _defer(self, connection: Connection, exchange: Exchange, cost: float | None) -> None:
        """Compute a reply in a thread."""
        sock = self.sockets[connection]
        self.selector.unregister(sock)
        job = Job(sock, self.workload, cost)
        exchange.environ |= {IS_CANCELLED: job.is_cancelled, ADMIT: job.ask}
        self.threads.call(partial(self._run, connection, exchange, job), bool(job.is_admitted))

    def _run(self, connection: Connection, exchange: Exchange, job: Job) -> None:
        """Compute a reply in a thread, and wake up the loop."""
        try:
            if not job.is_cancelled():
                self._finish(exchange)
        finally:
            self.done.put((connection, exchange, job))
            # a full pipe wakes up the loop as well
            with contextlib.suppress(BlockingIOError):
                os.write(self.wakeup[1], b".")

    def on_wakeup(self, pipe: int) -> None:
        """Send the replies that threads have computed."""
        os.read(pipe, 4096)
        while not self.done.empty():
            connection, exchange, job = self.done.get()
            job.release()
            # not registered meanwhile: pipelined bytes would wake up the loop forever
            self.selector.register(job.sock, selectors.EVENT_READ, connection)
            self._guard(self._end, connection, exchange, job)

    def _end(self, connection: Connection, exchange: Exchange, job: Job) -> None:
        if job.is_gone:
            self.record(exchange.environ, CLIENT_CLOSED, time.monotonic())
            self.close(connection)
        else:
            self._reply(connection, exchange, job.n_probes)

    def _complete(self, connection: Connection, exchange: Exchange) -> None:
        self._finish(exchange)
        self._reply(connection, exchange)

    def _finish(self, exchange: Exchange) -> None:
        try:
            exchange.finish()
        except Exception:
            self._fail(exchange)

    def _fail(self, exchange: Exchange) -> None:
        """Log an error of the application, and reply with status 500."""
        keys = ("REQUEST_METHOD", "PATH_INFO", "REMOTE_ADDR", REQUEST_ID)
        values = [exchange.environ[key] for key in keys]
        self.log.exception("application error: %s %s, client %s, request %s", *values)
        refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_ERROR)
        exchange.refuse(refusal, self.error_reply)

    # Reply

    def _reply(self, connection: Connection, exchange: Exchange, n_sent: int = 0) -> None:
        """Send a reply, of which n_sent bytes are sent already."""
        now, response = time.monotonic(), exchange.response
        self.record(exchange.environ, response.status_code, now)
        reply = memoryview(exchange.reply)[n_sent:]
        connection.respond(reply, response.should_close(), now)
        self.flush(connection)

    def refuse(self, connection: Connection, refusal: Refusal, now: float) -> None:
        """Reply with an error without calling the application, and close."""
        environ = connection.environ
        if isinstance(refusal, OtherProtocol) and now >= self.next_warning.get(refusal.detail, 0):
            self.next_warning[refusal.detail] = now + WARNING_INTERVAL
            self.log.warning("%s (client %s)", refusal.detail, environ["REMOTE_ADDR"])
        self.record(environ, refusal.status, now)
        connection.respond(error_response(refusal, environ, self.error_reply), True, now)
        self.flush(connection)

    def record(self, environ: WSGIEnvironment, status: int, now: float) -> None:
        """Log and count a request that has its reply."""
        seconds = now - environ[RECEIVED_AT]
        log_request(self.log, environ, status, seconds)
        route, method = environ.get(ROUTE) or environ["PATH_INFO"], environ["REQUEST_METHOD"]
        self.metrics.request(route, method, f"{status:d}", seconds)

    def flush(self, connection: Connection) -> None:
        """Send as many outgoing bytes as the socket takes."""
        sock = self.sockets[connection]
        try:
            n = sock.send(connection.outgoing)
        except BlockingIOError:
            n = 0
        was_blocked = connection.is_blocked
        is_complete = connection.sent(n, time.monotonic())
        if connection.is_blocked is not was_blocked:
            event = selectors.EVENT_READ if was_blocked else selectors.EVENT_WRITE
            self.selector.modify(sock, event, connection)
        self.deadlines.schedule(connection)
        if is_complete and connection.state is State.LINGERING:
            # closing at once would reset the connection while the client is sending, and
            # it might never read the reply
            with contextlib.suppress(OSError):  # the client has left
                sock.shutdown(socket.SHUT_WR)
        elif is_complete and connection.received.data:
            self.pipelined.append(connection)

    # Close

    def close_expired(self, now: float) -> None:
        """Close the connections whose deadline has passed."""
        for connection in self.deadlines.expired(now):
            self._guard(self._expire, connection, now)
        self.deadlines.shrink(len(self.sockets))

    def _expire(self, connection: Connection, now: float) -> None:
        if refusal := connection.time_out():
            self.refuse(connection, refusal, now)
        else:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close a connection and its socket."""
        connection.close()
        sock = self.sockets.pop(connection)
        with contextlib.suppress(KeyError):  # unregistered while a thread works for it
            self.selector.unregister(sock)
        sock.close()
