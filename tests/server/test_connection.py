"""The connection without I/O: bytes in, bytes out, states, deadlines and budgets."""

import contextlib
from http import HTTPStatus
from math import inf

import pytest
from gunicorn.config import Config
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from service.server.connection import (
    CONTINUE,
    LINGER_TIMEOUT,
    MAX_CHUNKS,
    MAX_HEAD_BYTES,
    MAX_HELD,
    MIN_HELD,
    MIN_RATE,
    TIMEOUT,
    Connection,
    ReceiveLimits,
    State,
    follow_chunks,
)
from service.server.deadlines import SPARE, DeadlineQueue
from service.server.http import Refusal, Request, error_response, plain_error
from service.server.wsgi_keys import REQUEST_ID

MAX_BODY = 100_000
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"
HOUR = 3600.0


def post(body: bytes, headers: bytes = b"") -> bytes:
    return POST + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def connect(limits: ReceiveLimits | None = None, now: float = 0.0) -> Connection:
    limits = limits or ReceiveLimits(Config(), MAX_BODY)
    return Connection(("192.0.2.7", 50_000), ("127.0.0.1", 80), limits, now)


def feed(connection: Connection, data: bytes, now: float = 0.0) -> Request | None:
    connection.receive(data, now)
    return connection.parse()


def refusal(connection: Connection, data: bytes) -> Refusal:
    with pytest.raises(Refusal) as raised:
        feed(connection, data)
    return raised.value


def send_all(connection: Connection, now: float = 0.0) -> None:
    assert connection.sent(len(connection.outgoing), now)


# Requests


@pytest.mark.parametrize(
    "message",
    [
        GET,
        post(b"abc"),
        POST + CHUNKED + b"\r\n3\r\nabc\r\n" + LAST_CHUNK,
        POST + CHUNKED + b"\r\n" + LAST_CHUNK,
        b"\r\n" + GET,
    ],
    ids=["no body", "length", "chunked", "empty chunked", "empty line first"],
)
def test_request_is_returned_with_its_last_byte(message):
    connection = connect()
    for i in range(len(message) - 1):
        assert feed(connection, message[i : i + 1]) is None
        assert connection.state is State.RECEIVING

    assert feed(connection, message[-1:]) is not None
    assert connection.state is State.WORKING
    assert connection.n_received == len(message)


def test_next_request_is_parsed_after_the_reply():
    connection = connect()
    assert feed(connection, post(b"abc") + GET).method == "POST"
    body = connection.request.body.read()
    connection.respond(b"HTTP/1.1 200 OK\r\n\r\n", closes=False, now=1.0)
    send_all(connection)

    assert body == b"abc"
    assert connection.state is State.RECEIVING
    assert connection.n_received == len(GET)
    assert connection.parse().method == "GET"


def test_client_that_waits_to_continue_is_asked_once():
    connection = connect()
    message = post(b"abcd", b"Expect: 100-continue\r\n")
    feed(connection, message[:-4])
    asked = bytes(connection.outgoing)
    connection.sent(len(asked), 0.0)
    feed(connection, message[-4:-2])

    assert asked == bytes(CONTINUE)
    assert not connection.outgoing
    assert feed(connection, message[-2:]) is not None


def test_client_that_sends_its_body_without_waiting_is_not_asked_to_continue():
    connection = connect()

    assert feed(connection, post(b"abcd", b"Expect: 100-continue\r\n")) is not None
    assert not connection.outgoing


@pytest.mark.parametrize(
    ("status", "target", "headers"),
    [
        (400, b"POST /predict", b"Content-Length: -1\r\n"),
        (400, b"POST /predict", b"Content-Length: +5\r\n"),
        (400, b"POST /predict", b"Content-Length: \xb2\r\n"),
        (400, b"POST /predict", b"Content-Length: %s\r\n" % (b"9" * 5000)),
        (400, b"POST /predict", b"Content-Length: 5\r\nContent-Length: 5\r\n"),
        (400, b"POST /predict", b"Content-Length: 5\r\n" + CHUNKED),
        (400, b"POST /predict", b"Transfer-Encoding: gzip\r\n"),
        (400, b"POST /predict", b"Transfer-Encoding: unheard-of\r\n"),
        (413, b"POST /predict", b"Content-Length: 99999999999999999999\r\n"),
        (413, b"POST /predict", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % (MAX_BODY + 1)),
        (417, b"POST /predict", b"Expect: a miracle\r\n"),
        (400, b"GET /livez", b"X: a\0b\r\n"),
        (400, b"GET /livez", b"X: a\rb\r\n"),
        (400, b"GET /livez", b"X: a\nY: b\r\n"),
        (400, b"GET /livez", b"X: a\r\n b\r\n"),
        (400, b"GET /livez", b"X : a\r\n"),
        (400, b"GET /livez", b"no colon\r\n"),
        (400, b"GET /livez", b"Host: y\r\n"),
        (400, b"get /livez", b""),
        (400, b"GET http://[", b""),
        (400, b"GET /\xe9", b""),
        (400, b"\x16\x03\x01\x02", b""),
        (414, b"GET /" + b"a" * 5000, b""),
        (431, b"GET /livez", b"X: %s\r\n" % (b"a" * 9000)),
        (431, b"GET /livez", b"X: a\r\n" * 200),
        (431, b"GET /livez", b"X: %s\r\n" % (b"a" * 7000) * 20),
    ],
)
def test_malformed_or_too_large_request_is_refused(status, target, headers):
    message = target + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"

    assert refusal(connect(), message).status == status


def test_lines_that_end_with_line_feed_alone_are_refused_at_once():
    found = refusal(connect(), b"GET /livez HTTP/1.1\nHost: x\n\n")

    assert found.status == HTTPStatus.BAD_REQUEST
    assert found.detail.startswith("malformed HTTP request: ")


def test_headers_without_end_are_refused():
    connection = connect()
    assert feed(connection, GET[:-2] + b"X: ") is None

    found = refusal(connection, b"a" * MAX_HEAD_BYTES)

    assert found.status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    assert "65,536 bytes" in found.detail


@pytest.mark.parametrize("body", [b"%x\r\n" % (MAX_BODY + 1), b"ffffffffff\r\nthe beginning"])
def test_chunk_over_the_limit_is_refused_when_it_begins(body):
    found = refusal(connect(), POST + CHUNKED + b"\r\n" + body)

    assert found.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert "exceeds 100,000 bytes" in found.detail


def test_body_in_too_many_chunks_is_refused():
    found = refusal(connect(), POST + CHUNKED + b"\r\n" + b"1\r\nx\r\n" * (MAX_CHUNKS + 1))

    assert found.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert "over 16,384 chunks" in found.detail


def test_request_behind_a_chunked_one_does_not_count_as_its_body():
    connection = connect()
    feed(connection, POST + CHUNKED + b"\r\n2710\r\n" + bytes(10_000) + b"\r\n")

    assert feed(connection, LAST_CHUNK + post(bytes(MAX_BODY))) is not None


# States


def test_closing_reply_is_sent_in_parts_and_followed_by_lingering():
    connection = connect()
    feed(connection, GET)
    connection.respond(b"0123456789", closes=True, now=1.0)
    assert connection.state is State.SENDING
    assert not connection.sent(4, 2.0)
    assert bytes(connection.outgoing) == b"456789"
    assert connection.is_blocked
    assert connection.sent(6, 3.0)

    connection.receive(b"what the client still sends", 4.0)

    assert connection.state is State.LINGERING
    assert not connection.received.data
    assert not connection.is_blocked


def test_refusal_discards_what_follows_the_request():
    connection = connect()
    refusal(connection, b"?\r\n\r\n" + GET)
    connection.respond(b"an error", closes=True, now=0.0)
    send_all(connection)

    assert connection.state is State.LINGERING
    assert not connection.received.data


def test_log_line_names_client_state_request_and_byte_counts():
    connection = connect()
    message = post(b"abcd", b"X-Request-ID: r-1\r\n")
    feed(connection, message)
    connection.respond(b"0123456789", closes=False, now=0.0)
    connection.sent(4, 0.0)

    assert str(connection) == (
        f"client 192.0.2.7, state sending, request r-1, {len(message)} bytes "
        "received, 4 bytes sent, 6 bytes to send"
    )


# Deadlines


def test_idle_connection_times_out_without_a_reply():
    connection = connect(now=HOUR)

    assert connection.deadline == HOUR + TIMEOUT
    assert connection.time_out() is None


@pytest.mark.parametrize(("message", "part"), [(GET[:9], "headers"), (post(b"abc")[:-1], "body")])
def test_incomplete_request_times_out_with_status_408(message, part):
    connection = connect()
    feed(connection, message, HOUR)

    found = connection.time_out()

    # its deadline counts from the first byte, not from the connection's beginning
    assert connection.deadline == pytest.approx(HOUR + TIMEOUT, abs=0.01)
    assert found.status == HTTPStatus.REQUEST_TIMEOUT
    assert found.detail == (
        f"request timeout: {part} not received within 10 s (minimum rate 32 KiB/s)"
    )


def test_upload_at_the_minimum_rate_extends_the_deadline():
    connection = connect(ReceiveLimits(Config(), 2**24))
    feed(connection, post(bytes(2**22))[:-3], now=1.0)
    feed(connection, b"\0", now=60.0)

    assert connection.deadline == 60.0 + TIMEOUT
    feed(connection, b"\0", now=130.0)
    assert connection.deadline == pytest.approx(1 + TIMEOUT + 2**22 / MIN_RATE, abs=0.1)


def test_single_bytes_do_not_extend_the_deadline():
    connection = connect()
    for second in range(10):
        feed(connection, POST[second : second + 1], float(second))

    assert connection.deadline < TIMEOUT + 0.01


def test_silence_is_not_extended_by_earlier_bytes():
    connection = connect(ReceiveLimits(Config(), 2**24))
    feed(connection, post(bytes(2**22))[:-1])

    assert connection.deadline == TIMEOUT


def test_application_has_no_deadline_and_each_reply_has_a_new_one():
    connection = connect()
    feed(connection, GET)
    assert connection.deadline == inf

    connection.respond(bytes(2**20), closes=True, now=HOUR)
    assert connection.deadline == HOUR + TIMEOUT
    connection.sent(2**19, HOUR + 5)
    assert connection.deadline == HOUR + TIMEOUT + 2**19 / MIN_RATE
    send_all(connection, HOUR + 9)
    assert connection.deadline == HOUR + 9 + LINGER_TIMEOUT


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n" + GET, "PROXY"),
        (b"PROXY UNKNOWN\r\n" + GET, "PROXY"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "PROXY"),
    ],
)
def test_other_protocols_are_named_at_once(start, name):
    refused = refusal(connect(), start)

    assert refused.status == HTTPStatus.BAD_REQUEST
    assert name in refused.detail


def test_kept_connection_times_out_after_the_keepalive():
    connection = connect(ReceiveLimits(Config(), MAX_BODY))
    connection.limits.keepalive = 75
    feed(connection, GET)
    connection.respond(b"a reply", closes=False, now=HOUR)
    send_all(connection, HOUR)

    assert connection.is_idle
    assert connection.deadline == HOUR + 75
    assert feed(connection, GET[:9], 2 * HOUR) is None
    assert connection.deadline == 2 * HOUR + TIMEOUT


def test_connections_expire_in_order_of_their_deadlines():
    queue = DeadlineQueue()
    late, early = connect(now=5.0), connect(now=1.0)
    for connection in (late, early):
        queue.schedule(connection)

    assert list(queue.expired(10.9)) == []
    assert list(queue.expired(11.0)) == [early]
    assert list(queue.expired(99.0)) == [late]
    assert list(queue.expired(99.0)) == []


def test_deadline_that_moves_in_either_direction_is_met():
    queue = DeadlineQueue()
    connection = connect()
    queue.schedule(connection)
    feed(connection, GET, 9.0)
    assert list(queue.expired(10.0)) == []  # the application works
    connection.respond(bytes(10), closes=True, now=20.0)
    queue.schedule(connection)
    assert list(queue.expired(29.9)) == []
    send_all(connection, 21.0)
    queue.schedule(connection)

    assert list(queue.expired(22.9)) == []
    assert list(queue.expired(23.0)) == [connection]
    assert list(queue.expired(HOUR)) == []


def test_closed_connections_do_not_expire_and_are_soon_forgotten():
    queue, n = DeadlineQueue(), 2 * SPARE
    connections = [connect() for _ in range(n)]
    for connection in connections:
        queue.schedule(connection)
    for connection in connections[1:]:
        connection.close()

    queue.shrink(n_open=1)

    assert len(queue.entries) == 1
    assert list(queue.expired(HOUR)) == connections[:1]


# Budget


def half_sent(limits: ReceiveLimits, n: int) -> Connection:
    connection = connect(limits)
    feed(connection, post(bytes(n + 1))[:-1])
    return connection


def test_large_requests_share_a_budget_and_small_ones_are_always_received():
    limits = ReceiveLimits(Config(), 2**24)
    n = MAX_HELD // 2**24
    large = [half_sent(limits, 2**24 - 1) for _ in range(n)]
    assert limits.held == MAX_HELD - n

    found = refusal(connect(limits), post(bytes(2**20 + 1))[:-1])
    assert found.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert found.detail == "server overloaded; retry after 1 s"
    half_sent(limits, MIN_HELD // 2)
    assert feed(connect(limits), GET) is not None

    for connection in large:
        connection.close()
    assert limits.held == 2**20


def test_reply_frees_the_budget_of_its_request():
    limits = ReceiveLimits(Config(), 2**24)
    connection = half_sent(limits, 2**20)
    feed(connection, b"\0")
    assert limits.held == 2**20 + 1

    connection.respond(b"a reply", closes=False, now=0.0)

    assert limits.held == 0


# Error responses


def test_error_response_to_head_has_no_body():
    found = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "server overloaded")

    whole, head = (
        error_response(
            found, {"REQUEST_METHOD": method, "PATH_INFO": "/", REQUEST_ID: "r-1"}, plain_error
        )
        for method in ("GET", "HEAD")
    )

    assert head == whole.removesuffix(b"server overloaded\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n")
    assert b"Retry-After: 1\r\n" in head
    assert b"Content-Length: 18\r\n" in head
    assert b"X-Request-ID: r-1\r\n" in head


# The end of a chunked body

token = st.text("abcxyz0189-_", min_size=1, max_size=8).map(str.encode)
extension = st.one_of(
    st.just(b""),
    st.builds(b";%s".__mod__, token),
    st.builds(lambda name, value: b";%s=%s" % (name, value), token, token),
    st.builds(lambda name: b' ; %s="; 0\\""' % name, token),
)
chunk = st.builds(
    lambda data, ext, zeros: b"%s%x%s\r\n%s\r\n" % (zeros, len(data), ext, data),
    st.one_of(st.binary(min_size=1), st.sampled_from([b"\r\n", b"0\r\n\r\n"])),
    extension,
    st.sampled_from([b"", b"0", b"000"]),
)
trailers = st.lists(
    st.builds(lambda name, value: b"x%s: %s\r\n" % (name, value), token, token), max_size=3
).map(b"".join)
bodies = st.builds(
    lambda parts, ext, tail: b"".join(parts) + b"0%s\r\n%s\r\n" % (ext, tail),
    st.lists(chunk, max_size=5),
    extension,
    trailers,
)


class Head:
    """The part of a request that gunicorn's reader of chunks uses."""

    limit_request_field_size = 8190
    max_buffer_headers = 2**20
    trailers = ()

    def parse_headers(self, data: bytes, from_trailer: bool) -> list[bytes]:
        return data.split(b"\r\n")


def read_with_gunicorn(data: bytes) -> tuple[bytes, bytes]:
    """Return the body, and the bytes after it."""
    unreader = IterUnreader([data])
    body = ChunkedReader(Head(), unreader).read(2**30)
    return body, unreader.read()


@given(bodies, st.binary(max_size=20), st.data())
def test_chunked_body_is_complete_exactly_at_its_end(body, after, data):
    _, rest = read_with_gunicorn(body + after)
    assert rest == after

    received, start = bytearray(), 0
    cuts = data.draw(st.sets(st.integers(1, len(body) - 1), max_size=8))
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(body)], strict=True):
        received += body[begin:end]
        start, _, is_complete = follow_chunks(received, start)
        assert is_complete == (end == len(body))
    assert follow_chunks(received + after, start)[2]


@given(
    st.one_of(st.binary(max_size=200), st.text("019afAFx+-_; \r\n\0", max_size=40).map(str.encode))
)
def test_parser_needs_no_more_bytes_of_a_complete_malformed_body(junk):
    start = 0
    for end in range(len(junk) + 1):
        try:
            next_start, _, is_complete = follow_chunks(bytearray(junk[:end]), start)
        except Refusal:
            break
        assert next_start >= start
        start = next_start
        if is_complete:
            # either reads the body or reports what is malformed
            with contextlib.suppress(ParseException):
                read_with_gunicorn(junk[:end])
            break


@pytest.mark.parametrize("size", [b"", b"-1", b"+1", b"0x1", b"1_0", b" 1", b"z", b"-0"])
def test_malformed_chunk_size_is_refused_before_the_parser_meets_it(size):
    with pytest.raises(ParseException):
        read_with_gunicorn(size + b"\r\n")

    with pytest.raises(Refusal) as refused:
        follow_chunks(bytearray(size + b"\r\n"), 0)
    assert refused.value.status == 400
    assert repr(size) in refused.value.detail


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", 400),
        (b"0\r\nx: " + b"a" * 2**17 + b"\r\n\r\n", 431),
        (b"00000000000000005\r\nhello\r\n0\r\n\r\n", 400),
        (b"5\r\nhello\r\n" + b"f" * 17 + b"\r\n", 400),
        (b"5\r\nhelloX0\r\n\r\n", 400),
    ],
    ids=["line", "trailers", "17 digits", "second chunk", "no line break"],
)
@pytest.mark.parametrize("step", [1, 1_000, 2**20])
def test_malformed_chunks_get_one_answer_however_their_bytes_arrive(body, status, step):
    start, found = 0, None
    for end in range(step, len(body) + step, step):
        try:
            start, _, is_complete = follow_chunks(bytearray(body[:end]), start)
        except Refusal as refusal:
            found = refusal.status
            break
        assert not is_complete

    assert found == status
