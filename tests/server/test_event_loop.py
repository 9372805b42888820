"""The event loop in this process, with small WSGI applications of its own."""

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from service.server.balancing import ConnectionCounts
from service.server.connection import MAX_HELD, MAX_SMALL, MIN_HELD, REQUEST_BYTES, ReceiveLimits
from service.server.event_loop import INTERNAL_ERROR, EventLoop
from service.server.http import plain_error
from service.server.jobs import HIGH, MAX_COST, PROBE, Job, Workload
from service.server.metrics import Metrics
from service.server.wsgi_keys import ADMIT, BUSY, DEFER, IS_CANCELLED, REQUEST_ID
from tests.conftest import wait_until


class Records(logging.Handler):
    """The messages that the loop has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def running_loop(application, **options) -> Iterator[tuple[int, Records]]:
    """Run a loop in a thread; return its port and its log."""
    config = Config()
    log, records = Logger(config), Records()
    log.error_log.handlers = [records]
    wakeup = os.pipe()
    for end in wakeup:
        os.set_blocking(end, False)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    settings = {
        "application": application,
        "log": log,
        "listeners": [listener],
        "wakeup": wakeup,
        "limits": ReceiveLimits(config, max_body_bytes=1000),
        "max_connections": 100,
        "error_reply": plain_error,
        "metrics": Metrics(),
        "counts": ConnectionCounts(),
        "slot": 0,
        "on_poll": lambda: None,
    }
    loop = EventLoop(**settings | options)
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            loop.run_once()
        loop.drain(0)
        for connection in list(loop.sockets):
            loop.close(connection)
        loop.selector.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield port, records
    finally:
        is_over.set()
        os.write(wakeup[1], b".")
        thread.join()
        for end in wakeup:
            os.close(end)


def echo(environ, start_response):
    """Reply with the path; a query of "defer" does so from a thread."""

    def body():
        reply = environ["PATH_INFO"].encode()
        start_response("200 OK", [("Content-Length", str(len(reply)))])
        yield reply

    return environ[DEFER](body) if environ["QUERY_STRING"] == "defer" else body()


def ask(port: int, *targets: str) -> bytes:
    """Send one request per target, pipelined; return all that is received."""
    lines = [f"{target} HTTP/1.1\r\nHost: x\r\n" for target in targets]
    lines[-1] += "Connection: close\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall("".join(f"{line}\r\n" for line in lines).encode())
        return read_to_end(client)


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(2**16), b""))


def test_replies_of_the_loop_and_of_threads_are_in_order():
    with running_loop(echo) as (port, _):
        reply = ask(port, "GET /a", "GET /b?defer", "GET /c")

    assert reply.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert reply.index(b"/a") < reply.index(b"/b") < reply.index(b"/c")


def test_short_functions_are_called_in_order_by_one_thread_beside_long_ones():
    called, is_released = [], threading.Event()

    def application(environ, start_response):
        def body():
            path = environ["PATH_INFO"]
            called.append((path, threading.get_ident()))
            if path in ("/long", "/first"):
                assert is_released.wait(10)
            start_response("200 OK", [("Content-Length", str(len(path)))])
            yield path.encode()

        return environ[DEFER](body, None if environ["PATH_INFO"] == "/long" else 1)

    def begin(path: str) -> socket.socket:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client

    with running_loop(application) as (port, _), ExitStack() as stack:
        clients = [begin("/first")]
        wait_until(lambda: len(called) == 1)
        clients += [begin("/long"), begin("/long")]
        wait_until(lambda: len(called) == 3)
        clients += [begin("/second")]
        is_released.set()
        replies = [read_to_end(client) for client in clients]

    assert [reply.rpartition(b"\r\n")[2] for reply in replies] == [
        *(b"/first", b"/long", b"/long", b"/second")
    ]
    assert [path for path, _ in called] == ["/first", "/long", "/long", "/second"]
    threads = [thread for _, thread in called]
    assert threads[0] == threads[3]
    assert len(set(threads)) == 3


def test_error_that_ends_a_thread_leaves_the_next_short_function_its_thread(capsys):
    def application(environ, start_response):
        def body():
            if environ["PATH_INFO"] == "/end":
                raise SystemExit
            start_response("200 OK", [("Content-Length", "2")])
            yield b"ok"

        return environ[DEFER](body, 1)

    with running_loop(application) as (port, _):
        first = socket.create_connection(("127.0.0.1", port), timeout=10)
        with first:
            first.sendall(b"GET /end HTTP/1.1\r\nHost: x\r\n\r\n")
            assert ask(port, "GET /next").endswith(b"ok")

    assert "SystemExit" in capsys.readouterr().err


def test_short_functions_are_admitted_by_their_cost_before_they_are_queued():
    begun, is_released = threading.Event(), threading.Event()

    def application(environ, start_response):
        def body():
            is_admitted = environ[ADMIT](MAX_COST)
            if environ["PATH_INFO"] == "/first":
                begun.set()
                assert is_released.wait(10)
            reply = b"admitted" if is_admitted else b"refused"
            start_response("200 OK", [("Content-Length", str(len(reply)))])
            yield reply

        return environ[DEFER](body, 0.7 * MAX_COST)

    with running_loop(application) as (port, _), ThreadPoolExecutor() as pool:
        first = pool.submit(ask, port, "GET /first")
        assert begun.wait(10)
        # a refused function does not wait for the one thread
        assert ask(port, "GET /second").endswith(b"refused")
        is_released.set()
        assert first.result().endswith(b"admitted")


def fail_when_called(environ, start_response):
    raise ArithmeticError


def fail_in_body(environ, start_response):
    def body():
        start_response("200 OK", [])
        yield b"the beginning"
        raise ArithmeticError

    return body()


def fail_in_thread(environ, start_response):
    def body():
        raise ArithmeticError

    return environ[DEFER](body)


@pytest.mark.parametrize("application", [fail_when_called, fail_in_body, fail_in_thread])
def test_application_error_is_a_500_which_has_no_body_for_head(application):
    with running_loop(application) as (port, records):
        whole = ask(port, "GET /a")
        head = ask(port, "HEAD /a")

    assert whole.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert whole.endswith(f"\r\n\r\n{INTERNAL_ERROR}\n".encode())
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert records.messages[0].startswith("application error: GET /a, client 127.0.0.1, request ")


def test_requests_of_one_turn_are_called_together_and_fail_alone():
    called = []
    is_held, is_released = threading.Event(), threading.Event()

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        called.append(path)
        if path == "/hold":
            is_held.set()
            assert is_released.wait(10)

        def body():
            if path == "/2":
                raise ArithmeticError
            seen = str(len(called)).encode()
            start_response("200 OK", [("Content-Length", str(len(seen)))])
            yield seen

        return body()

    with running_loop(application) as (port, _), ExitStack() as stack:

        def send(path: str) -> socket.socket:
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return stack.enter_context(client)

        send("/hold")
        assert is_held.wait(10)
        clients = [send(f"/{i}") for i in range(4)]
        is_released.set()
        replies = [read_to_end(client) for client in clients]

    assert replies.pop(2).startswith(b"HTTP/1.1 500 ")
    assert all(reply.endswith(b"\r\n\r\n5") for reply in replies)


def test_failed_connection_is_logged_and_closed_alone():
    def fail(status, detail, environ):
        raise ArithmeticError

    message = b"POST / HTTP/1.1\r\nX-Request-ID: r-1\r\nContent-Length: 1001\r\n\r\n"
    with running_loop(echo, error_reply=fail) as (port, records):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(message)
            assert client.recv(99) == b""
        assert ask(port, "GET /b").endswith(b"/b")

    assert records.messages == [
        "closing connection after an error: client 127.0.0.1, state receiving, request "
        f"r-1, {len(message)} bytes received, 0 bytes sent, 0 bytes to send"
    ]


def test_reply_larger_than_the_sockets_buffers_is_whole():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", str(2**23))])
        return [bytes(2**23)]

    with (
        running_loop(application) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)
        reply = read_to_end(client)

    assert len(reply.partition(b"\r\n\r\n")[2]) == 2**23


def test_longest_idle_connection_makes_room_for_a_new_one():
    with running_loop(echo, max_connections=2) as (port, _):
        address = ("127.0.0.1", port)
        with (
            socket.create_connection(address, timeout=10) as busy,
            socket.create_connection(address, timeout=10) as idle,
        ):
            busy.sendall(b"GET /a HTTP/1.1\r\n")
            time.sleep(0.2)
            assert ask(port, "GET /b").endswith(b"/b")
            assert idle.recv(1) == b""
            busy.sendall(b"Host: x\r\nConnection: close\r\n\r\n")
            assert busy.recv(12) == b"HTTP/1.1 200"


def test_client_that_resets_its_connection_ends_it_alone():
    counts = ConnectionCounts()

    def n_connections() -> float:
        return counts.fewest_elsewhere(1, time.monotonic())

    with running_loop(echo, counts=counts) as (port, records):
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(b"GET /a HTTP/1.1\r\n")
        wait_until(lambda: n_connections() == 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        wait_until(lambda: n_connections() == 0)
        assert ask(port, "GET /b").endswith(b"/b")

    assert records.messages == []


def test_request_id_is_the_clients_if_it_is_usable():
    def application(environ, start_response):
        body = environ[REQUEST_ID].encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with running_loop(application) as (port, _):
        own = ask(port, "GET / HTTP/1.1\r\nX-Request-ID: abc-1\r\nX: GET /")
        twice = ask(port, "GET / HTTP/1.1\r\nX-Request-ID: a\r\nX-Request-ID: b\r\nX: GET /")

    assert own.endswith(b"\r\n\r\nabc-1")
    assert b"\r\nX-Request-ID: abc-1\r\n" in own
    assert len(twice.rpartition(b"\r\n\r\n")[2]) == 16


def test_large_request_over_the_memory_budget_is_refused_and_small_ones_are_not():
    limits = ReceiveLimits(Config(), max_body_bytes=2**20)
    limits.held = MAX_HELD
    message = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    with running_loop(echo, limits=limits) as (port, _):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(message + bytes(2 * MIN_HELD))
            reply = read_to_end(client)
        assert ask(port, "GET /b").endswith(b"/b")

    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in reply
    assert limits.held == MAX_HELD


@pytest.mark.parametrize("size", [MIN_HELD // 2, 200])
def test_half_requests_over_the_memory_budget_refuse_the_oldest_of_them(size):
    limits = ReceiveLimits(Config(), max_body_bytes=2**20)
    limits.small = start = MAX_SMALL - 3 * MIN_HELD // 2
    n = 2 * MIN_HELD // size
    message = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(size)
    with running_loop(echo, limits=limits, max_connections=2000) as (port, _), ExitStack() as stack:
        address = ("127.0.0.1", port)
        clients = []
        for _ in range(n):
            clients.append(stack.enter_context(socket.create_connection(address, timeout=10)))
            clients[-1].sendall(message)
            # before its bytes are read, the first one would be an idle connection
            wait_until(lambda: limits.small > start + REQUEST_BYTES)
            assert limits.small <= MAX_SMALL + MIN_HELD
        reply = read_to_end(clients[0])
        assert ask(port, "GET /b").endswith(b"/b")
        clients[-1].setblocking(False)
        with pytest.raises(BlockingIOError):  # it is still open
            clients[-1].recv(1)

    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in reply


def test_idle_connection_is_closed_before_a_half_request_is_refused():
    limits = ReceiveLimits(Config(), max_body_bytes=2**20)
    with running_loop(echo, limits=limits) as (port, _):
        address = ("127.0.0.1", port)
        with (
            socket.create_connection(address, timeout=10) as half,
            socket.create_connection(address, timeout=10) as idle,
        ):
            half.sendall(b"GET /a HTTP/1.1\r\n")
            time.sleep(0.2)
            limits.small += MAX_SMALL
            half.sendall(b"Host: x\r\n")
            assert idle.recv(1) == b""
            limits.small -= MAX_SMALL
            half.sendall(b"Connection: close\r\n\r\n")
            assert half.recv(12) == b"HTTP/1.1 200"


def wait_until_cancelled(environ, start_response):
    """Reply "done" from a thread, at the path /wait once the client has left."""

    def body():
        is_cancelled = environ[IS_CANCELLED]
        if environ["PATH_INFO"] == "/wait":
            started.set()
            wait_until(is_cancelled, 20)
            cancelled.set()
        elif environ["PATH_INFO"] == "/check":
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                assert not is_cancelled()
        start_response("200 OK", [("Content-Length", "4")])
        yield b"done"

    started, cancelled = environ["test.started"], environ["test.cancelled"]
    return environ[DEFER](body)


@contextmanager
def watched_loop():
    """Run a loop; yield its port, and events for a request that waits."""
    started, cancelled = threading.Event(), threading.Event()

    def application(environ, start_response):
        environ |= {"test.started": started, "test.cancelled": cancelled}
        return wait_until_cancelled(environ, start_response)

    with running_loop(application) as (port, records):
        yield port, started, cancelled
    assert records.messages == []


WAIT = b"POST /wait HTTP/1.1\r\nHost: x\r\n\r\n"
CHECK = b"POST /check HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LINGER_NOT = struct.pack("ii", 1, 0)


@pytest.mark.parametrize("follows", [b"", b"GET /next HTTP/1.1\r\n", WAIT], ids=len)
@pytest.mark.parametrize("how", ["close", "reset", "half-close first"])
def test_client_that_leaves_cancels_its_request(follows, how):
    with watched_loop() as (port, started, cancelled):
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(WAIT + follows)
        assert started.wait(10)
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        elif how == "half-close first":
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == PROBE[:1]
            assert not cancelled.is_set()
        client.close()
        assert cancelled.wait(10)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as other:
            other.sendall(CHECK)
            assert read_to_end(other).endswith(b"done")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("follows", [b"", CHECK], ids=["alone", "pipelined"])
def test_half_closed_client_keeps_its_whole_reply(version, follows):
    with (
        watched_loop() as (port, _, _),
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        first = CHECK.replace(b"1.1", version)
        first = first.replace(b": close", b": keep-alive") if follows else first
        client.sendall(first + follows)
        client.shutdown(socket.SHUT_WR)
        reply = read_to_end(client)

    assert reply.startswith(b"HTTP/" + version + b" 200 OK\r\n")
    assert reply.count(b"\r\n\r\ndone") == 1 + bool(follows)
    assert reply.endswith(b"\r\n\r\ndone")


def test_request_that_is_alone_is_admitted_after_any_sum_of_other_costs():
    workload = Workload()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        jobs = [Job(ours, workload) for _ in range(3)]
        for job, cost in zip(jobs, (0.1, 0.2, 1e20), strict=True):
            job.admit(cost)
        for job in jobs:
            job.release()
        alone, other = Job(ours, workload), Job(ours, workload)

        assert alone.admit(MAX_COST)
        assert alone.admit(2)
        assert not other.admit(2)


def test_work_is_admitted_by_its_cost_and_reported_before_it_is_refused():
    held, is_released = threading.Semaphore(0), threading.Event()

    def application(environ, start_response):
        cost = float(environ["QUERY_STRING"])

        def body():
            is_admitted = environ[ADMIT](cost)
            if is_admitted and environ["PATH_INFO"] == "/hold":
                held.release()
                assert is_released.wait(10)
            reply = f"admitted: {is_admitted}, busy: {BUSY in environ}".encode()
            start_response("200 OK", [("Content-Length", str(len(reply)))])
            yield reply

        return environ[DEFER](body)

    with running_loop(application) as (port, _), ExitStack() as stack:

        def hold(cost: float) -> None:
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            stack.enter_context(client).sendall(f"GET /hold?{cost} HTTP/1.0\r\n\r\n".encode())
            assert held.acquire(timeout=10)

        alone = ask(port, f"GET /?{2 * MAX_COST}")
        hold(HIGH * MAX_COST)
        below = ask(port, "GET /?1")
        hold(2)
        high = ask(port, "GET /?1")
        beyond = ask(port, f"GET /?{MAX_COST / 2}")
        is_released.set()
        wait_until(lambda: ask(port, "GET /?1").endswith(b"busy: False"))

    assert alone.endswith(b"admitted: True, busy: False")
    assert below.endswith(b"admitted: True, busy: False")
    assert high.endswith(b"admitted: True, busy: True")
    assert beyond.endswith(b"admitted: False, busy: True")
