"""The worker under raw sockets, whose clients send what no library would."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import statistics
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.classifier import Classifier, save
from service.server.connection import TIMEOUT
from service.server.jobs import MAX_WORKING
from service.settings import DEFAULT_LIMITS
from tests.conftest import (
    Service,
    answers,
    encode,
    free_port,
    running_service,
    start_service,
    wait_until,
)

CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def running():
    with running_service(WEB_CONCURRENCY="1") as service:
        yield service


@pytest.fixture
def service(running):
    """The service, whose only worker must survive each test."""
    wait_until(lambda: len(running.workers()) == 1)
    before = running.workers()
    yield running
    assert running.workers() == before, "the worker ended"


@pytest.fixture
def mounted():
    """The service under a path, which gunicorn reads from the environment."""
    port = free_port()
    process = start_service(PORT=str(port), SCRIPT_NAME="/digits")
    service = Service(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(lambda: answers(f"{service.url}/digits/livez"))
        yield service
    finally:
        process.terminate()
        process.communicate(timeout=30)


# Requests and replies


def request(
    target: bytes = b"POST /predict", headers: bytes = b"", body: bytes | None = None
) -> bytes:
    if body is not None:
        headers += b"Content-Length: %d\r\n" % len(body)
    return target + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + (body or b"")


def livez(headers: bytes = b"") -> bytes:
    return request(b"GET /livez", headers)


def post(body: bytes, kind: bytes = b"image/png", headers: bytes = b"") -> bytes:
    headers += b"Content-Type: " + kind + b"\r\n"
    return request(headers=headers, body=body)


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def stroke(column: int, scale: int = 1) -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, column : column + 3] = 255
    return np.kron(image, np.ones((scale, scale), np.uint8))


@cache
def photo() -> bytes:
    """A picture that keeps a thread busy for a while."""
    return encode(np.pad(stroke(12, scale=100), 600), "JPEG")


def bulk(headers: bytes = b"") -> bytes:
    """A request whose reply is larger than a socket's initial buffer."""
    one = np.zeros((28, 28), np.uint8)
    one[4:24, 12:16] = 255  # 20 pixels high and centred, as in MNIST
    body = one.tobytes() * DEFAULT_LIMITS.max_images
    return post(body, b"application/octet-stream", headers)


# fast and slow, valid and invalid
MIXED = [
    post(encode(stroke(6))),
    post(encode(stroke(15, scale=10))),
    livez(),
    post(b"no picture"),
    post(encode(stroke(12))),
    request(b"GET /nowhere"),
    request(headers=CHUNKED + b"Content-Type: image/png\r\n")
    + chunks(encode(stroke(9, scale=10)), 50)
    + LAST_CHUNK,
    request(b"HEAD /livez"),
    request(b"GET /model"),
]


def connect(service: Service) -> socket.socket:
    port = int(service.url.rsplit(":", 1)[1])
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def reset(client: socket.socket) -> None:
    """Close with a reset instead of a FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(2**16), b""))


def replies(data: bytes, heads: tuple[int, ...] = ()) -> list[tuple[int, bytes]]:
    """Split replies; those to HEAD, given by their index, have no body."""
    found: list[tuple[int, bytes]] = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        size = 0 if len(found) in heads else int(fields["content-length"])
        assert "html" not in fields["content-type"]
        assert len(data) >= size, "the reply is incomplete"
        found.append((int(status.split()[1]), data[:size]))
        data = data[size:]
    return found


def ask(service: Service, *parts: bytes, half_closes: bool = False) -> list[tuple[int, bytes]]:
    """Send the parts while reading; return all replies until the service closes."""

    def send() -> None:
        with contextlib.suppress(OSError):
            for part in parts:
                client.sendall(part)
            if half_closes:
                client.shutdown(socket.SHUT_WR)

    with connect(service) as client:
        sender = threading.Thread(target=send)
        sender.start()
        try:
            return replies(read_to_end(client))
        finally:
            sender.join()


def statuses(service: Service, *parts: bytes, **options) -> list[int]:
    return [status for status, _ in ask(service, *parts, **options)]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def n_files(service: Service) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in service.workers())


def n_megabytes(service: Service) -> float:
    (pid,) = service.workers()
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def n_sockets(pid: int) -> int:
    """Count the sockets that a process has open."""
    n = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # a descriptor may be closed before its link is read
        with contextlib.suppress(FileNotFoundError):
            n += os.readlink(link).startswith("socket:")
    return n


# Replies are correct, complete and in order


def expected(service: Service) -> list[tuple[int, bytes]]:
    """Return the replies to the mixed requests when each is sent alone."""
    found = []
    for message in MIXED:
        head, _, rest = message.partition(b"\r\n\r\n")
        alone = head + b"\r\n" + CLOSE + b"\r\n" + rest
        with connect(service) as client:
            client.sendall(alone)
            heads = (0,) if head.startswith(b"HEAD") else ()
            found += replies(read_to_end(client), heads)
    return found


def converse(service: Service, data: bytes, sizes: list[int], n: int) -> list:
    """Send the data in pieces; return the replies to n times the mixed requests."""

    def send() -> None:
        begin, piece = 0, 0
        while begin < len(data):
            end = begin + sizes[piece % len(sizes)]
            client.sendall(data[begin:end])
            begin, piece = end, piece + 1

    head = [len(MIXED) * i + 7 for i in range(n)]
    with connect(service) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send)
        received = read_to_end(client)
        sent.result()
    return replies(received, tuple(head))


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(1, [1]), (2, [2**16]), (3, [1, 7, 100, 900]), (30, [2**14]), (60, [2**20])],
    ids=["bytewise", "one segment", "split anywhere", "many", "more than a buffer"],
)
def test_pipelined_requests_get_their_replies_in_order(service, n, sizes):
    want = expected(service)
    assert [status for status, _ in want] == [200, 200, 200, 415, 200, 404, 200, 200, 200]

    got = converse(service, b"".join(MIXED) * n + livez(CLOSE), sizes, n)

    assert got[-1][0] == 200
    assert got[:-1] == want * n


def test_pipelined_requests_of_a_half_closed_client_are_answered(service):
    assert statuses(service, livez() * 3, half_closes=True) == [200] * 3


def test_pipelined_slow_requests_of_a_half_closed_client_are_answered(service):
    slow = post(encode(stroke(12, scale=10)))

    assert statuses(service, slow * 3, half_closes=True) == [200] * 3


@pytest.mark.parametrize(
    "message", [livez(), MIXED[0], MIXED[1], bulk()], ids=["probe", "quick", "slow", "bulk"]
)
def test_half_closed_client_is_answered(service, message):
    ((status, body),) = ask(service, message, half_closes=True)

    assert status == 200
    assert json.loads(body)


def test_request_sent_while_another_is_in_a_thread_is_answered_after_it(service):
    with connect(service) as client:
        client.sendall(post(photo(), b"image/jpeg"))
        time.sleep(0.01)
        client.sendall(livez(CLOSE))
        first, second = replies(read_to_end(client))

    assert "probabilities" in json.loads(first[1])
    assert json.loads(second[1]) == {"status": "alive"}


def test_large_replies_read_late_are_complete(service):
    with connect(service) as client, ThreadPoolExecutor(1) as pool:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        sent = pool.submit(client.sendall, bulk() * 2 + bulk(CLOSE))
        time.sleep(1)
        assert statuses(service, livez(CLOSE)) == [200]
        received = replies(read_to_end(client))
        sent.result()

    assert [status for status, _ in received] == [200] * 3
    assert [len(body) for _, body in received] == [len(received[0][1])] * 3
    assert len(json.loads(received[0][1])["predictions"]) == DEFAULT_LIMITS.max_images


@pytest.mark.parametrize(
    ("message", "n"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", 1),
        (b"GET /livez HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + livez(CLOSE), 2),
        (livez(CLOSE) + livez(), 1),
        (b"\r\n" + livez(CLOSE), 1),
        (request(b"GET /livez", body=b"ignored") + livez(CLOSE), 2),
    ],
)
def test_connection_is_kept_alive_as_http_specifies(service, message, n):
    assert statuses(service, message) == [200] * n


def test_client_that_expects_100_continue_receives_it(service):
    body = encode(stroke(12))
    message = post(body, headers=b"Expect: 100-continue\r\n" + CLOSE)
    with connect(service) as client:
        client.sendall(message[: -len(body)])
        interim = client.recv(4096)
        client.sendall(body)
        ((status, _),) = replies(read_to_end(client))

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert status == 200


# Malformed requests are refused, and end the connection


@pytest.mark.parametrize(
    ("status", "target", "headers"),
    [
        (400, b"POST /predict", b"Content-Length: 5\r\n" + CHUNKED),
        (400, b"\x16\x03\x01\x02", b""),
        (413, b"POST /predict", b"Content-Length: 17000000\r\n"),
        (414, b"GET /" + b"a" * 5000, b""),
        (417, b"POST /predict", b"Expect: a miracle\r\n"),
        (431, b"GET /livez", b"X: %s\r\n" % (b"a" * 7000) * 20),
    ],
)
def test_malformed_request_is_refused_and_nothing_after_it_is_read(
    service, status, target, headers
):
    ((got, body),) = ask(service, request(target, headers) + livez())

    assert got == status
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"5;" + b"a" * 20_000 + b"\r\nhe",
    ],
)
def test_nothing_is_read_after_a_malformed_body(service, body):
    with connect(service) as client:
        client.sendall(request(headers=b"Content-Type: image/png\r\n" + CHUNKED) + body)
        received = client.recv(4096)
        with contextlib.suppress(OSError):
            client.sendall(request(b"GET /model", CLOSE))
        received += read_to_end(client)

    assert [status for status, _ in replies(received)] == [400]


def test_refusal_of_head_has_no_body(service):
    with connect(service) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65_536), b""))

    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_client_that_still_sends_too_much_can_read_the_refusal(service, is_chunked):
    size = DEFAULT_LIMITS.max_bytes + 4 * 2**20
    declared = CHUNKED if is_chunked else b"Content-Length: %d\r\n" % size
    with connect(service) as client:
        client.sendall(request(headers=declared))
        client.sendall(chunks(bytes(size), 2**16) if is_chunked else bytes(size))
        ((status, _),) = replies(read_to_end(client))

    assert status == 413


def test_paths_are_answered_with_the_prefix_and_without_it(mounted):
    for path in (b"/livez", b"/readyz", b"/metrics", b"/model"):
        for prefix in (b"", b"/digits"):
            assert statuses(mounted, request(b"GET " + prefix + path, CLOSE)) == [200]
    assert statuses(mounted, request(b"GET /digitslivez", CLOSE)) == [404]


def test_prefix_without_a_slash_redirects_to_its_folder(mounted):
    with connect(mounted) as client:
        client.sendall(request(b"GET /digits", CLOSE))
        reply = read_to_end(client)

    assert reply.startswith(b"HTTP/1.1 308 ")
    assert b"\r\nLocation: /digits/\r\n" in reply
    assert b"Content-Length: 0\r\n" in reply


# No client slows down another one


def test_clients_that_disconnect_at_any_time_leak_no_descriptor(service):
    before = n_files(service)
    message = post(photo(), b"image/jpeg")
    stages = [b"", b"P", message[:60], message[:-1], message, livez() * 3, b"?\r\n\r\n"]
    for stage in stages:
        for leave in (socket.socket.close, reset):
            client = connect(service)
            client.sendall(stage)
            leave(client)
    client = connect(service)
    client.settimeout(2)
    with contextlib.suppress(TimeoutError):  # the worker reads no more while its replies wait
        client.sendall(bulk() * 3)
    reset(client)

    wait_until(lambda: n_files(service) <= before, 10)


def test_client_that_resets_instead_of_continuing_does_not_stop_the_worker(service):
    message = request(headers=b"Expect: 100-continue\r\nContent-Length: 9\r\n")
    for _ in range(5):
        client = connect(service)
        client.sendall(message)
        reset(client)

    assert statuses(service, livez(CLOSE)) == [200]


def test_body_in_tiny_chunks_does_not_delay_other_clients(service):
    message = request(b"PUT /livez", CHUNKED) + chunks(bytes(130_000), 1) + LAST_CHUNK
    with connect(service) as client:
        client.sendall(message)
        time.sleep(0.2)
        begin = time.monotonic()
        assert statuses(service, livez(CLOSE)) == [200]
        assert time.monotonic() - begin < 2


def test_idle_connections_hold_no_memory_of_replies(tmp_path):
    def take() -> None:
        client = clients.enter_context(connect(service))
        client.sendall(bulk())
        end = b""
        while not end.endswith(b'"}\n'):
            end = end[-2:] + client.recv(2**20)

    # features that take no time, as only the replies matter
    weight = np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)
    save(Classifier(weight, weight[0], tuple(range(10)), "pixels"), tmp_path / "w")
    settings = {"WEB_CONCURRENCY": "1", "DIGITS_WEIGHTS": str(tmp_path / "w")}
    # a fresh process, whose heap is not fragmented
    with running_service(**settings) as service, contextlib.ExitStack() as clients:
        for _ in range(6):
            take()
        before = n_megabytes(service)
        for _ in range(8):
            take()

        wait_until(lambda: n_megabytes(service) - before < 8)


def test_memory_of_large_pictures_is_returned_within_seconds():
    large = post(encode(np.full((4000, 4000), 200, np.uint8)), headers=CLOSE)
    with running_service(WEB_CONCURRENCY="1") as service:
        before = n_megabytes(service)

        assert statuses(service, large) == [422]

        # Pillow, and the buffers that stay
        wait_until(lambda: n_megabytes(service) - before < 12)


def test_slow_requests_over_capacity_are_refused_with_retry_after(service):
    message = post(photo(), b"image/jpeg", CLOSE)
    n = MAX_WORKING + 16
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(service)) for _ in range(n)]
        for client in clients:
            client.sendall(message[:-1])
        for client in clients:
            client.sendall(message[-1:])
        assert statuses(service, livez(CLOSE)) == [200]
        received = [read_to_end(client) for client in clients]

    counts = [replies(data)[0][0] for data in received]
    assert set(counts) == {200, 503}
    # the cost of the photos is bounded too
    assert counts.count(200) >= MAX_WORKING / 2
    assert all(b"Retry-After" in data for data in received if b" 503 " in data[:13])


@pytest.fixture(scope="module")
def slow_clients(running):
    """The outcome of slow clients of every kind, all at the same time."""
    pid = running.workers()[0]
    upload = post(bytes(5 * 2**20), b"application/octet-stream")
    kinds = {
        "silent": b"",
        "half a head": b"POST /predict HTTP/1.1\r\nHos",
        "half a body": post(b"x" * 100)[:-50],
        "half a chunk": request(headers=CHUNKED) + b"64\r\nthe first of it",
        "half a large body": upload[: 4 * 2**20],
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(99)) * 3,
        "line feeds only": b"GET /livez HTTP/1.1\nHost: x\n\n",
        "idle after a reply": livez(),
        "a byte now and then": b"POST /predict HTTP/1.1\r\n",
    }

    def be_slow(kind: str) -> bytes | None:
        end = time.monotonic() + TIMEOUT + 4
        with connect(running) as client:
            client.sendall(kinds[kind])
            client.settimeout(0.5)
            received = b""
            while time.monotonic() < end:
                try:
                    if kind == "a byte now and then":
                        client.sendall(b"A")
                    data = client.recv(2**16)
                except TimeoutError:
                    continue
                received += data
                if not data:
                    return received
        return None

    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(running)) for _ in range(600)]
        with ThreadPoolExecutor(len(kinds)) as pool:
            outcomes = {kind: pool.submit(be_slow, kind) for kind in kinds}
            time.sleep(1)
            begin, cpu, waits = time.monotonic(), cpu_seconds(pid), []
            while not all(outcome.done() for outcome in outcomes.values()):
                asked = time.monotonic()
                assert statuses(running, MIXED[1] + livez(CLOSE)) == [200, 200]
                waits.append(time.monotonic() - asked)
                time.sleep(0.5)
            cpu = (cpu_seconds(pid) - cpu) / (time.monotonic() - begin)
        for client in idle:
            assert client.recv(1) == b""  # closed after a silence
        outcomes = {kind: outcome.result() for kind, outcome in outcomes.items()}
    return SimpleNamespace(outcomes=outcomes, cpu=cpu, longest_wait=max(waits))


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("silent", []),
        ("half a head", [408]),
        ("half a body", [408]),
        ("half a chunk", [408]),
        ("half a large body", [408]),
        ("a byte now and then", [408]),
    ],
)
def test_slow_client_is_refused_with_status_408_and_closed(slow_clients, kind, reply):
    received = slow_clients.outcomes[kind]

    assert received is not None, f"not closed within {TIMEOUT + 4} s"
    assert [status for status, _ in replies(received)] == reply


def test_idle_connection_that_has_had_a_reply_stays_open(slow_clients):
    assert slow_clients.outcomes["idle after a reply"] is None


@pytest.mark.parametrize("kind", ["TLS", "line feeds only"])
def test_client_of_another_protocol_gets_an_error(slow_clients, kind):
    received = slow_clients.outcomes[kind]

    assert received is not None
    assert replies(received)[0][0] in (400, 408)


def test_slow_clients_do_not_delay_a_normal_one(slow_clients):
    assert slow_clients.longest_wait < 2
    assert slow_clients.cpu < 0.5


def test_connections_over_the_file_limit_close_only_idle_ones():
    with running_service(WEB_CONCURRENCY="1") as service, contextlib.ExitStack() as stack:
        # the worker that replaces it inherits the master's limit
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        (old,) = service.workers()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: service.workers() not in ([], [old]))
        (pid,) = service.workers()
        upload = stack.enter_context(connect(service))
        upload.sendall(MIXED[1][:200])
        for _ in range(400):
            stack.enter_context(connect(service))
        cpu = cpu_seconds(pid)
        time.sleep(0.5)

        assert cpu_seconds(pid) - cpu < 0.25
        assert statuses(service, livez(CLOSE)) == [200]
        upload.sendall(MIXED[1][200:])
        assert upload.recv(12) == b"HTTP/1.1 200"
        assert service.workers() == [pid]


# Start, stop and balance


def test_connections_that_arrive_at_once_are_shared_by_the_workers():
    with running_service(WEB_CONCURRENCY="2") as service:
        wait_until(lambda: len(service.workers()) == 2)
        address = service.url.removeprefix("http://").split(":")
        idle = min(n_sockets(pid) for pid in service.workers())

        def shares(n: int) -> list[int]:
            """Open n connections at once; count those that each worker accepts."""
            with contextlib.ExitStack() as stack:
                for _ in range(n):
                    stack.enter_context(socket.create_connection(address, timeout=10))
                time.sleep(0.3)
                return [n_sockets(pid) - idle for pid in service.workers()]

        # the second worker starts a moment after the first
        wait_until(lambda: min(shares(8)) > 0)
        time.sleep(0.3)
        # a worker that the machine delays accepts few; without balancing, one accepts nearly all
        assert statistics.mean(min(shares(24)) for _ in range(10)) >= 6


def test_sigterm_finishes_in_flight_requests():
    message = post(photo(), b"image/jpeg")
    with running_service(WEB_CONCURRENCY="1") as service, contextlib.ExitStack() as on:
        working = [on.enter_context(connect(service)) for _ in range(6)]
        half_sent, kept = (on.enter_context(connect(service)) for _ in range(2))
        for client in working:
            client.sendall(message)
        half_sent.sendall(message[:1000])
        kept.sendall(livez())
        assert kept.recv(12) == b"HTTP/1.1 200"
        begin = time.monotonic()
        service.process.terminate()
        time.sleep(0.3)
        half_sent.sendall(message[1000:])
        for client in [*working, half_sent]:
            ((status, _),) = replies(read_to_end(client))
            assert status == 200
        read_to_end(kept)
        assert service.process.wait(timeout=30) == 0

    assert time.monotonic() - begin < TIMEOUT


def test_readiness_fails_after_sigterm():
    with running_service(WEB_CONCURRENCY="1") as service, contextlib.ExitStack() as on:
        kept = on.enter_context(connect(service))
        kept.sendall(request(b"GET /readyz"))
        assert kept.recv(12) == b"HTTP/1.1 200"
        time.sleep(0.1)
        kept.setblocking(False)
        kept.recv(4096)
        kept.settimeout(10)
        service.process.terminate()
        time.sleep(0.3)
        kept.sendall(request(b"GET /readyz"))
        ((status, body),) = replies(read_to_end(kept))

    assert status == 503
    assert "stopping" in json.loads(body)["detail"]


def test_sighup_replaces_the_workers_without_losing_a_request():
    body = encode(stroke(12))
    failures: list[str] = []

    def load() -> None:
        client = http.client.HTTPConnection(service.url.removeprefix("http://"))
        while not is_over.is_set():
            try:
                client.request("POST", "/predict", body, {"Content-Type": "image/png"})
                reply = client.getresponse()
                assert reply.status == 200
                reply.read()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                failures.append(repr(error))
                client.close()
            time.sleep(0.005)
        client.close()

    is_over = threading.Event()
    with running_service() as service, ThreadPoolExecutor(4) as pool:
        wait_until(lambda: len(service.workers()) == 2)
        before = set(service.workers())
        loads = [pool.submit(load) for _ in range(4)]
        try:
            time.sleep(0.3)
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: not before & set(service.workers()))
        finally:
            is_over.set()
        for done in loads:
            done.result()

    assert failures == []
