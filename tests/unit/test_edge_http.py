"""HTTP connections of the edge: requests one after the other, answers that librtmp takes, limits, deadlines."""

import logging
import socket
import time
from collections.abc import Iterator

import pytest
from headwater_bus.logs import RateLimit
from headwater_edge.doors import refusals
from headwater_edge.doors.door import TrustedProxies
from headwater_edge.doors.http import HttpConnection, HttpRequest
from headwater_edge.edge import Edge
from support.edge import end_all, make_edge
from support.http_peers import Answer, HttpPeer, end_peers, post
from support.waiting import eventually

CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(refusals, "_limit", RateLimit(0.0))
    yield
    end_peers()
    end_all()


@pytest.fixture
def edge() -> Edge:
    return make_edge()[0]


def test_an_answer_is_written_as_librtmp_needs_it(edge: Edge) -> None:
    peer = HttpPeer(edge)
    request = peer.request(post("/open/1", b"\0", "Content-Type: application/x-fcs"))
    assert (request.method, request.target, request.body) == ("POST", "/open/1", b"\0")
    assert (request.address, request.secure, request.closed) == ("203.0.113.5", False, False)
    request.answer(200, b"abc\n")
    assert request.closed
    eventually(lambda: (peer.pump(), peer.received)[1], 10)
    assert peer.received == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\nContent-Length: 4\r\nConnection: keep-alive\r\n"
        b"Cache-Control: no-cache\r\n\r\nabc\n"
    )


def test_one_connection_carries_any_number_of_requests(edge: Edge) -> None:
    peer = HttpPeer(edge, on_request=lambda request: request.answer(200, request.body))
    for number in range(3000):
        peer.send(post(f"/send/abc/{number}", str(number).encode()))
        (answer,) = peer.answers(1)
        assert answer.body == str(number).encode()
    assert edge.admission.count == 1


def test_what_was_read_already_belongs_to_the_first_request(edge: Edge) -> None:
    data = post("/send/abc/1", b"12345")
    peer = HttpPeer(edge, data=data[:-3])
    peer.send(data[-3:])
    eventually(lambda: peer.requests, 10)
    assert peer.requests[0].body == b"12345"
    assert [request.target for request in HttpPeer(edge, data=data).requests] == ["/send/abc/1"]


def test_one_request_at_a_time(edge: Edge) -> None:
    peer = HttpPeer(edge)
    peer.send(b"".join(post(f"/idle/abc/{number}", b"\0") for number in range(5)))
    for number in range(5):
        eventually(lambda number=number: len(peer.requests) > number, 10)  # type: ignore[misc]  # mypy infers no lambda with a default
        assert [request.target for request in peer.requests[number:]] == [f"/idle/abc/{number}"]
        peer.requests[number].answer(200, b"%d" % number)
    assert [answer.body for answer in peer.answers(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_the_next_request_waits_until_the_answer_has_left(edge: Edge) -> None:
    peer = HttpPeer(edge, buffer_bytes=4096)
    peer.send(post("/idle/abc/1", b"\0") + post("/idle/abc/2", b"\0"))
    eventually(lambda: peer.requests, 10)
    peer.requests[0].answer(200, bytes(1_000_000))
    assert len(peer.requests) == 1
    eventually(lambda: (peer.pump(), len(peer.requests) == 2)[1], 10)
    peer.requests[1].answer(200, b"2")
    assert [len(answer.body) for answer in peer.answers(2)] == [1_000_000, 1]


def test_a_chunked_body_is_taken(edge: Edge) -> None:
    request = HttpPeer(edge).request(
        b"POST /send/abc/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n"
    )
    assert request.body == b"abcde"


def test_a_whole_url_is_taken_for_its_path(edge: Edge) -> None:
    assert HttpPeer(edge).request(post("http://edge:80/send/abc/1", b"x")).target == "/send/abc/1"


@pytest.mark.parametrize(
    ("data", "goes_on"),
    [
        (post("/open/1"), True),
        (post("/open/1", b"", "Connection: close"), False),
        (post("/open/1", version="1.0"), False),
        (post("/open/1", b"", "Connection: keep-alive", version="1.0"), True),
    ],
)
def test_a_connection_goes_on_as_long_as_its_client_wants(edge: Edge, data: bytes, goes_on: bool) -> None:
    peer = HttpPeer(edge)
    peer.request(data).answer(200, b"x")
    (answer,) = peer.answers(1)
    assert answer.status_line == "HTTP/1.1 200 OK"
    assert answer.headers["Connection"] == ("keep-alive" if goes_on else "close")
    if goes_on:
        assert peer.request(post("/idle/abc/1")).target == "/idle/abc/1"
    else:
        peer.until_ended()


def test_the_answer_may_end_the_connection(edge: Edge) -> None:
    peer = HttpPeer(edge)
    peer.request(post("/open/1")).answer(503, b"", close=True)
    assert peer.answers(1)[0].headers["Connection"] == "close"
    peer.until_ended()
    assert edge.requests == set()


def test_an_answer_leaves_whole_whoever_reads_it(edge: Edge) -> None:
    """It is the kernel's at once: that this process is killed now does not cut it."""
    ours, theirs = slow_reader()
    requests: list[HttpRequest] = []
    edge.admission.enter("127.0.0.1")
    connection = HttpConnection(
        edge, theirs, "127.0.0.1", post("/idle/abc/1"), False, requests.append, TrustedProxies()
    )
    requests[0].answer(200, bytes(edge.config.tunnel_answer_bytes + 1))
    assert connection._outbox is None
    ours.close()


def slow_reader() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection that takes little, as it is by default over slow networks."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours.connect(server.getsockname())
        theirs, _ = server.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    theirs.setblocking(False)
    return ours, theirs


# Health and what is none of RTMPT


def ask(edge: Edge, data: bytes, heads_only: bool = False) -> Answer:
    peer = HttpPeer(edge)
    peer.send(data)
    (answer,) = peer.answers(1, heads_only)
    assert peer.requests == []
    return answer


def test_health_is_answered(edge: Edge) -> None:
    answer = ask(edge, b"GET /health HTTP/1.1\r\n\r\n")
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"ok\n", "text/plain")
    assert ask(edge, b"GET /health?from=haproxy HTTP/1.0\r\n\r\n").status == 200
    head = ask(edge, b"HEAD /health HTTP/1.1\r\n\r\n", heads_only=True)
    assert (head.status, head.headers["Content-Length"]) == (200, "3")


def test_an_edge_that_drains_says_so(edge: Edge) -> None:
    edge.draining = True
    answer = ask(edge, b"GET /health HTTP/1.1\r\n\r\n")
    assert (answer.status, answer.body, answer.headers["Connection"]) == (503, b"draining\n", "close")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /crossdomain.xml HTTP/1.1\r\n\r\n", 404),
        (b"PUT /send/abc/1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 405),
        (b"DELETE /health HTTP/1.1\r\n\r\n", 405),
    ],
)
def test_what_is_not_there_is_said_and_the_connection_goes_on(edge: Edge, data: bytes, status: int) -> None:
    answer = ask(edge, data)
    assert (answer.status, answer.headers["Connection"]) == (status, "keep-alive")
    assert (answer.headers.get("Allow") == "GET, HEAD, POST") == (status == 405)


def test_another_protocol_is_not_spoken_but_what_was_asked_is_answered(edge: Edge) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    peer = HttpPeer(edge)
    peer.send(f"GET /health HTTP/1.1\r\n{upgrade}GET /health HTTP/1.1\r\n\r\n".encode())
    assert [answer.status for answer in peer.answers(2)] == [200, 200]
    assert ask(edge, f"POST /open/1 HTTP/1.1\r\nContent-Length: 5\r\n{upgrade}abcde".encode()).status == 400


def test_a_body_is_one_of_its_own_request(edge: Edge) -> None:
    peer = HttpPeer(edge, on_request=lambda request: request.answer(200, b""))
    peer.send(
        post("/open/1", b"abc") + b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    assert [answer.status for answer in peer.answers(2)] == [200, 200]


# Clients that are gone, or are to be


def test_a_client_that_is_gone_waits_for_nothing(edge: Edge) -> None:
    peer = HttpPeer(edge)
    request = peer.request(post("/idle/abc/1"))
    peer.sock.close()
    eventually(lambda: request.closed, 10)
    request.answer(200, b"too late")
    request.abort()
    assert edge.requests == set()
    assert edge.admission.count == 0


def test_what_stands_behind_a_last_request_hides_no_end(edge: Edge) -> None:
    """Old clients send a line too many behind a body."""
    peer = HttpPeer(edge)
    request = peer.request(post("/idle/abc/1", b"\0", "Connection: close") + b"\r\n\r\nX")
    peer.sock.close()
    eventually(lambda: request.closed, 10)
    assert edge.counters.protocol_errors == 0


def test_abort_closes_without_an_answer_and_without_a_reset(edge: Edge) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(server.getsockname())
    theirs, _ = server.accept()
    server.close()
    theirs.setblocking(False)
    edge.admission.enter("127.0.0.1")
    requests: list[HttpRequest] = []
    edge.tunnels.request = requests.append  # type: ignore[assignment,method-assign]
    edge.open_http(theirs, "127.0.0.1", post("/idle/abc/1"), False, TrustedProxies())
    ours.sendall(
        b"POST /idle"
    )  # Unread bytes would make a reset of a plain close: HAProxy asks no other edge then.
    requests[0].abort()
    requests[0].answer(200, b"x")
    ours.settimeout(10)
    assert ours.recv(100) == b""
    ours.close()
    eventually(lambda: edge.admission.count == 0, 10)


def test_a_client_that_breaks_off_while_it_is_answered(edge: Edge) -> None:
    peer = HttpPeer(edge, buffer_bytes=4096)
    peer.request(post("/idle/abc/1")).answer(200, bytes(1_000_000))
    peer.sock.close()
    eventually(lambda: edge.requests == set(), 10)
    assert edge.admission.count == 0


def test_a_fault_behind_a_request_is_answered_and_logged(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: HttpRequest) -> None:
        raise ZeroDivisionError("by design")

    peer = HttpPeer(edge, on_request=fail)
    peer.send(post("/open/1"))
    assert peer.answers(1)[0].status == 500
    peer.until_ended()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert edge.counters.internal_errors == 1
    edge.counters.internal_errors = 0


def test_draining_lets_end_what_is_under_way(edge: Edge) -> None:
    idle, pending, coming = HttpPeer(edge), HttpPeer(edge), HttpPeer(edge)
    request = pending.request(post("/idle/abc/1"))
    data = post("/send/abc/1", b"xyz")
    coming.send(data[:-1])
    eventually(lambda: coming.connection._reader.begun, 10)
    for connection in list(edge.requests):
        connection.drain()
    idle.until_ended()
    request.answer(200, b"x")
    coming.request(data[-1:]).answer(200, b"y")
    for peer in (pending, coming):
        assert peer.answers(1)[0].headers["Connection"] == "close"
        peer.until_ended()


# Whose word is taken


@pytest.mark.parametrize(
    ("peer", "headers", "address", "secure"),
    [
        ("203.0.113.5", ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"], "203.0.113.5", False),
        ("10.0.0.1", ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"], "192.0.2.1", True),
        ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1", False),
        ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 192.0.2.1"], "192.0.2.1", False),
        ("10.0.0.1", [], "10.0.0.1", False),
    ],
)
def test_only_trusted_balancers_say_who_a_client_is(
    edge: Edge, peer: str, headers: list[str], address: str, secure: bool
) -> None:
    trusted = TrustedProxies(["10.0.0.0/8"])
    request = HttpPeer(edge, address=peer, trusted=trusted).request(post("/open/1", b"", *headers))
    assert (request.address, request.secure) == (address, secure)


def test_what_stands_behind_a_body_says_nothing_of_the_client(edge: Edge) -> None:
    peer = HttpPeer(edge, address="10.0.0.1", trusted=TrustedProxies(["10.0.0.0/8"]))
    head = "POST /open/1 HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = peer.request(head.encode() + b"1\r\nx\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert (request.address, request.body) == ("192.0.2.1", b"x")


def test_a_balancer_brings_requests_of_many_clients(edge: Edge) -> None:
    peer = HttpPeer(edge, address="10.0.0.1", trusted=TrustedProxies(["10.0.0.0/8"]))
    for client in ("192.0.2.1", "192.0.2.2"):
        request = peer.request(post("/open/1", b"", f"X-Forwarded-For: {client}"))
        assert request.address == client
        request.answer(200, b"")


# Limits


def chunks(size: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, bytes(size))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post("/" + "x" * 17_000), 414),
        (post("/open/1", b"", "X: " + "x" * 17_000), 431),
        (post("/open/1", b"", *(f"X{number}: {number}" for number in range(2000))), 431),
        (post("/open/1", b"", "X: " + "x" * 200_000), 431),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 17_000 + b"\r\n\r\n", 431),
        (b"POST /send/abc/1 HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST /send/abc/1 HTTP/1.1\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"POST /send/abc/1 HTTP/1.1\r\nContent-Length: 10000000000000000\r\n\r\n", 413),
        (b"POST /send/abc/1 HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST /send/abc/1 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /send/abc/1 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (post("/send/abc/1", b"5\r\nabcde\r\n0\r\n\r\n", CHUNKED), 400),
        (b"POST /send/abc/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(600) + chunks(600), 413),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 431),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000, 431),
        (b"\r\n" * 100_000, 431),
        (b"POST /open/1\r\n\r\n", 400),
        (b"POST /open/1 HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /open/1 RTMP/1.1\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", 400),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 400),
        (b"Hello\r\n", 400),
    ],
)
def test_what_cannot_be_taken_is_answered_and_ends_the_connection(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    edge = make_edge(http_body_bytes=1000)[0]
    peer = HttpPeer(edge, buffer_bytes=1 << 20)
    peer.send(data)
    (answer,) = peer.answers(1)
    assert (answer.status, answer.headers["Connection"]) == (status, "close")
    peer.until_ended()
    assert peer.requests == []
    assert edge.counters.protocol_errors == 1
    assert [record.getMessage() for record in caplog.records] == ["request refused"]


def test_requests_before_a_bad_one_are_answered_first(edge: Edge) -> None:
    peer = HttpPeer(edge)
    request = peer.request(post("/idle/abc/1") + b"\0\0\0\0")
    assert edge.counters.protocol_errors == 0
    request.answer(200, b"x")
    assert [answer.status for answer in peer.answers(2)] == [200, 400]
    peer.until_ended()


def test_a_bad_request_is_answered_whole_whatever_was_asked_before(edge: Edge) -> None:
    peer = HttpPeer(edge)
    peer.send(b"HEAD /health HTTP/1.1\r\n\r\nnonsense")
    peer.until_ended()
    assert peer.received.endswith(b"\r\n\r\nno HTTP request: Invalid method encountered\n")


def test_who_sends_too_many_requests_at_once_gets_some_answers(edge: Edge) -> None:
    peer = HttpPeer(edge, on_request=lambda request: request.answer(200, b""))
    peer.send(post("/idle/abc/1") * 20)
    assert [answer.status for answer in peer.answers(9)] == [200] * 8 + [400]
    peer.until_ended()


def test_what_waits_of_one_client_is_bounded(edge: Edge) -> None:
    """While a request is pending, and another waits, nothing more is read."""
    peer = HttpPeer(edge, buffer_bytes=1 << 20)
    peer.request(post("/idle/abc/1"))
    peer.send(post("/idle/abc/2"))
    reader = peer.connection._reader
    eventually(lambda: len(reader.received) == 1, 10)
    assert not peer.connection._watcher.active
    peer.send(post("/send/abc/3", bytes(100_000)))
    peer.requests[0].answer(200, b"")
    eventually(lambda: len(peer.requests) == 2, 10)
    peer.requests[1].answer(200, b"")
    eventually(lambda: len(peer.requests) == 3, 10)
    assert len(peer.requests[2].body) == 100_000


# Expect: 100-continue


def test_who_waits_for_a_word_before_the_body_gets_it(edge: Edge) -> None:
    peer = HttpPeer(edge)
    data = post("/send/abc/1", b"body", "Expect: 100-continue")
    peer.send(data[:-4])
    assert peer.answers(1)[0].status_line == "HTTP/1.1 100 Continue"
    assert peer.request(data[-4:]).body == b"body"


def test_who_does_not_wait_for_it_does_not_get_it(edge: Edge) -> None:
    peer = HttpPeer(edge)
    data = post("/send/abc/1", b"body", "Expect: 100-continue")
    peer.request(data).answer(200, b"x")
    assert peer.answers(1)[0].status == 200
    peer.send(data[:-1])
    eventually(lambda: peer.connection._reader._body_bytes == 3, 10)
    peer.request(data[-1:]).answer(200, b"x")
    assert peer.answers(1)[0].status == 200


def test_that_word_comes_behind_the_answer_before_it(edge: Edge) -> None:
    peer = HttpPeer(edge)
    data = post("/send/abc/2", b"body", "Expect: 100-continue")
    request = peer.request(post("/send/abc/1") + data[:-4])
    request.answer(200, b"x")
    assert [answer.status for answer in peer.answers(2)] == [200, 100]
    assert peer.request(data[-4:]).body == b"body"


# Time


def test_a_head_or_a_body_that_does_not_come_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    edge = make_edge(handshake_s=5, http_request_s=20)[0]
    data = post("/send/abc/1", b"body")
    for part, limit_s in ((data[:10], 5), (data[:-1], 20)):
        peer = HttpPeer(edge, data=part)
        now = time.monotonic()
        peer.connection.check(now + limit_s - 1)
        assert peer.connection in edge.requests
        peer.connection.check(now + limit_s + 1)
        assert peer.answers(1)[0].status == 408
        peer.until_ended()
    assert [record.getMessage() for record in caplog.records] == ["request refused"] * 2


def test_a_head_that_drips_in_has_no_more_time() -> None:
    """Each byte that comes does not begin the time anew."""
    edge = make_edge(handshake_s=5)[0]
    peer = HttpPeer(edge, data=b"P")
    begun_at = peer.connection._begun_at
    peer.send(b"OST")
    eventually(lambda: peer.connection._reader._silent_bytes == 3, 10)
    assert peer.connection._begun_at == begun_at


def test_a_connection_without_requests_is_closed_in_time() -> None:
    edge = make_edge(http_idle_s=75)[0]
    peer = HttpPeer(edge)
    peer.request(post("/open/1")).answer(200, b"x")
    peer.answers(1)
    peer.connection._begun_at -= 1000  # Its answer was long in coming.
    peer.connection.check(time.monotonic() + 74)
    assert peer.connection in edge.requests
    peer.connection.check(time.monotonic() + 76)
    peer.until_ended()
    assert peer.received == b""


def test_a_request_that_is_pending_has_time(edge: Edge) -> None:
    peer = HttpPeer(edge)
    request = peer.request(post("/open/1"))
    peer.connection.check(time.monotonic() + 1000)
    request.answer(200, b"x")
    assert peer.answers(1)[0].status == 200


def test_who_does_not_take_its_answer_is_cut_off() -> None:
    edge = make_edge(http_request_s=20)[0]
    peer = HttpPeer(edge, buffer_bytes=4096)
    peer.request(post("/open/1")).answer(200, bytes(1_000_000))
    answered_at = peer.connection._since
    eventually(lambda: (peer.sock.recv(20_000), peer.connection._since > answered_at)[1], 10)
    peer.connection.check(time.monotonic() + 19)
    assert peer.connection in edge.requests
    peer.connection.check(time.monotonic() + 21)
    assert edge.requests == edge.lingering == set()  # type: ignore[comparison-overlap]  # each is to be empty
    assert edge.admission.count == 0
