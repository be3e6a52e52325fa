"""What a new connection is: RTMP, HTTP, TLS, or nothing; whose address counts; and the options that say where."""

import errno
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from headwater_bus.logs import RateLimit
from headwater_bus.options import OperatorError
from headwater_edge.doors import (
    Door,
    Doors,
    Place,
    TrustedProxies,
    door_options,
    doors_of,
    open_doors,
    refusals,
)
from headwater_edge.listener import ListenError
from support.edge import end_all, make_edge
from support.edge_client import warnings
from support.waiting import eventually

TRUSTED = TrustedProxies(["10.0.0.0/8"])
BALANCER = "10.1.1.1"
PROXIED = Door(proxied=True, trusted=TRUSTED)
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1935\r\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(refusals, "_limit", RateLimit(0.0))
    yield
    for sock in _socks:
        sock.close()
    _socks.clear()
    end_all()


_socks: list[socket.socket] = []
Opened = tuple[str, str, bytes, bool]


class OpenedEdge:
    """An edge; `opened`: what it was handed over, as (protocol, address, data, secure)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.edge = make_edge(**settings)[0]
        self.opened: list[Opened] = []

        def rtmp(sock: Any, *opened: Any) -> None:
            self._take(sock, ("rtmp", *opened))

        def http(sock: Any, *opened: Any) -> None:
            self._take(sock, ("http", *opened[:-1]))

        monkeypatch.setattr(self.edge, "open_rtmp", rtmp)
        monkeypatch.setattr(self.edge, "open_http", http)

    def _take(self, sock: Any, opened: Any) -> None:
        self.opened.append(opened)
        _socks.append(sock)
        self.edge.admission.leave(opened[1])

    def connect(self, door: Door, address: str = "203.0.113.5", data: bytes = b"") -> socket.socket:
        """A connection, on which this was sent before it was accepted."""
        ours, theirs = socket.socketpair()
        _socks.append(ours)
        ours.settimeout(10)
        ours.sendall(data)
        self.edge.accept(theirs, address, door)
        return ours

    def until_opened(self) -> Opened:
        eventually(lambda: self.opened, 10)
        (opened,) = self.opened
        self.opened.clear()
        assert self.edge.openings == set()
        return opened


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> OpenedEdge:
    return OpenedEdge(monkeypatch)


def header_with_tls() -> bytes:
    """The client spoke TLS with the balancer."""
    tlv = b"\x20\x00\x05\x01\0\0\0\0"
    rest = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + bytes(4) + tlv
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack(">H", len(rest)) + rest


def is_closed(sock: socket.socket) -> bool:
    """Whether nothing comes but the end. It is a reset where something was not read."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


# The first byte


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (b"\x03" + bytes(1536), "rtmp"),
        (b"\x06", "rtmp"),
        (b"\x00", "rtmp"),
        (b"\xff", "rtmp"),
        (b"\x03POST", "rtmp"),
        *(
            (method[:size], "http")
            for method in (b"GET", b"POST", b"OPTIONS", b"HEAD", b"PUT")
            for size in (1, 3)
        ),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_the_first_byte_says_what_it_is(
    opened: OpenedEdge, data: bytes, protocol: str, is_there: bool
) -> None:
    sock = opened.connect(Door(), data=data if is_there else b"")
    if not is_there:
        assert len(opened.edge.openings) == opened.edge.admission.count == 1
        sock.sendall(data)
    assert opened.until_opened() == (protocol, "203.0.113.5", data, False)


def test_who_says_nothing_is_closed_in_time(opened: OpenedEdge, caplog: pytest.LogCaptureFixture) -> None:
    sock = opened.connect(Door())
    (opening,) = opened.edge.openings
    opening.check(time.monotonic() + opened.edge.config.handshake_s - 1)
    assert opened.edge.openings
    opened.edge.check_deadlines(time.monotonic() + opened.edge.config.handshake_s + 1)
    assert sock.recv(1) == b""
    assert warnings(caplog) == ["nothing to know it by within 5 s"]
    assert opened.edge.openings == set()
    assert opened.edge.admission.count == 0
    opening.close()
    opening.check(time.monotonic() + 1000)
    assert opened.edge.admission.count == 0


@pytest.mark.parametrize("by_reset", [True, False])
def test_a_connection_that_only_looks_whether_we_are_there(
    opened: OpenedEdge, caplog: pytest.LogCaptureFixture, by_reset: bool
) -> None:
    """As load-balancers do: it is no event."""
    server = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(server.getsockname())
    theirs, _ = server.accept()
    server.close()
    opened.edge.accept(theirs, "127.0.0.1", Door())
    if by_reset:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ours.close()
    eventually(lambda: opened.edge.openings == set(), 10)
    assert opened.edge.admission.count == 0
    assert caplog.records == []


def test_an_edge_that_ends_lets_go_of_them(opened: OpenedEdge) -> None:
    sock = opened.connect(Door())
    opened.edge.shutdown("the edge is stopping", within_s=0)
    assert sock.recv(1) == b""
    assert is_closed(opened.connect(Door(), data=b"\x03"))
    assert opened.opened == []


def test_what_is_handed_over_is_let_go_of(opened: OpenedEdge) -> None:
    """A second owner of a socket would close it under the first."""
    sock = opened.connect(Door())
    (opening,) = opened.edge.openings
    sock.sendall(b"\x03")
    opened.until_opened()
    count = opened.edge.admission.count
    opening.check(time.monotonic() + 1000)
    opening.close()
    assert opened.edge.admission.count == count
    sock.sendall(b"still there")


def test_a_fault_while_it_is_opened_ends_only_that(
    opened: OpenedEdge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("headwater_edge.doors.opening.parse_header", fail)
    assert opened.connect(PROXIED, BALANCER, HEADER).recv(1) == b""
    assert opened.edge.counters.internal_errors == 1
    opened.edge.counters.internal_errors = 0
    assert warnings(caplog) == ["internal error: ZeroDivisionError('by design')"]


def test_who_cannot_be_opened_is_closed(opened: OpenedEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*opened: Any) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(opened.edge, "open_rtmp", fail)
    assert opened.connect(Door(), data=b"\x03").recv(1) == b""
    assert opened.edge.admission.count == 0
    assert opened.edge.counters.internal_errors == 1
    opened.edge.counters.internal_errors = 0


def test_a_socket_that_fails_is_closed(opened: OpenedEdge, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            return lambda *args: 0

        def recv(self, size: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    opened.edge.accept(Broken(), "203.0.113.5", Door())
    assert opened.edge.admission.count == 0
    assert warnings(caplog) == ["socket: Input/output error"]


def test_tls_needs_a_certificate(opened: OpenedEdge, caplog: pytest.LogCaptureFixture) -> None:
    assert opened.connect(Door(), data=b"\x16\x03\x01").recv(1) == b""
    assert warnings(caplog) == ["TLS, and there is no certificate: give --tls-cert and --tls-key"]
    assert opened.edge.counters.connections_refused == 1


@pytest.mark.parametrize("data", [b"\x03", b"GET /health HTTP/1.1\r\n\r\n"])
def test_a_door_for_tls_takes_nothing_else(
    opened: OpenedEdge, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    sock = opened.connect(Door(plain=False), data=data)
    assert sock.recv(1) == b""
    assert warnings(caplog) == ["plain bytes, expected TLS: this port takes nothing else (--rtmps-port)"]
    assert opened.opened == []


def test_tls_with_the_balancer_is_not_tls_with_us(
    opened: OpenedEdge, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(plain=False, proxied=True, trusted=TRUSTED)
    assert opened.connect(door, BALANCER, header_with_tls() + b"\x03").recv(1) == b""
    assert warnings(caplog) == ["plain bytes, expected TLS: this port takes nothing else (--rtmps-port)"]


# The PROXY protocol


@pytest.mark.parametrize("cut", [0, 1, 6, len(HEADER) - 1, len(HEADER)])
def test_a_balancer_says_who_it_is(opened: OpenedEdge, cut: int) -> None:
    whole = HEADER + b"\x03"
    sock = opened.connect(PROXIED, BALANCER, whole[:cut])
    assert opened.opened == []
    sock.sendall(whole[cut:])
    assert opened.until_opened() == ("rtmp", "192.0.2.1", b"\x03", False)
    assert opened.edge.admission.count == 0


def test_what_comes_behind_the_header_may_be_anything(opened: OpenedEdge) -> None:
    opened.connect(PROXIED, BALANCER, HEADER + b"POST /open/1 HTTP/1.1\r\n")
    assert opened.until_opened() == ("http", "192.0.2.1", b"POST /open/1 HTTP/1.1\r\n", False)


def test_a_balancer_that_ends_tls_says_so(opened: OpenedEdge) -> None:
    opened.connect(PROXIED, BALANCER, header_with_tls() + b"\x03")
    assert opened.until_opened() == ("rtmp", "192.0.2.1", b"\x03", True)


def test_a_balancer_that_asks_for_itself_keeps_its_address(opened: OpenedEdge) -> None:
    opened.connect(PROXIED, BALANCER, b"PROXY UNKNOWN\r\nGET /health HTTP/1.0\r\n\r\n")
    assert opened.until_opened()[:2] == ("http", BALANCER)


@pytest.mark.parametrize(
    ("address", "data", "text"),
    [
        ("203.0.113.5", HEADER, "PROXY protocol: not from a network that --trust names"),
        (BALANCER, b"\x03" + bytes(1536), "PROXY protocol: no header, but b'\\x03"),
        (BALANCER, b"GET /health HTTP/1.1\r\n\r\n", "PROXY protocol: no header"),
        (
            BALANCER,
            b"PROXY TCP4 " + b"1" * 200,
            "PROXY protocol: no end of the line within 107 bytes: b'PROXY TCP4 1",
        ),
    ],
)
def test_where_a_header_has_to_be_nothing_else_is_taken(
    opened: OpenedEdge, caplog: pytest.LogCaptureFixture, address: str, data: bytes, text: str
) -> None:
    assert is_closed(opened.connect(PROXIED, address, data))
    (reason,) = warnings(caplog)
    assert reason.startswith(text)
    assert opened.edge.openings == set()
    assert opened.edge.admission.count == 0
    assert opened.edge.counters.connections_refused == 1


def test_a_header_where_none_is_expected_gives_no_address(opened: OpenedEdge) -> None:
    opened.connect(Door(trusted=TRUSTED), BALANCER, HEADER)
    assert opened.until_opened()[:2] == ("http", BALANCER)  # Which is no HTTP either: HttpConnection says so.


def test_limits_count_clients_not_balancers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = OpenedEdge(monkeypatch, max_per_address=2)
    for _ in range(5):
        opened.connect(PROXIED, BALANCER, HEADER[:5])
    assert opened.edge.admission.held == {BALANCER: 5}
    monkeypatch.undo()  # From here on they are clients, and stay.
    monkeypatch.setattr(refusals, "_limit", RateLimit(0.0))
    for _ in range(2):
        opened.connect(PROXIED, BALANCER, HEADER + b"\x03")
    assert opened.edge.admission.held == {BALANCER: 5, "192.0.2.1": 2}
    assert opened.connect(PROXIED, BALANCER, HEADER + b"\x03").recv(1) == b""
    assert warnings(caplog) == ["too many connections from 192.0.2.1"]
    assert opened.edge.admission.held == {BALANCER: 5, "192.0.2.1": 2}


def test_the_last_connection_that_there_may_be_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = OpenedEdge(monkeypatch, max_connections=1)
    opened.connect(PROXIED, BALANCER, HEADER + b"\x03")
    assert opened.until_opened()[1] == "192.0.2.1"


# Whom a request is from


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("", BALANCER),
        ("192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("6.6.6.6,192.0.2.1,10.2.2.2", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1 , 10.2.2.2, 10.3.3.3", "192.0.2.1"),
        ("10.2.2.2, 10.3.3.3", "10.2.2.2"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0db8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, ::ffff:10.2.2.2", "6.6.6.6"),
        ("unknown", BALANCER),
        ("6.6.6.6, unknown, 10.2.2.2", "10.2.2.2"),
        ("192.0.2.1, ", BALANCER),
        (",,,", BALANCER),
        ("fe80::1%eth0", BALANCER),
        ("192.0.2.1,[fe80::1%" + "x" * 1000 + "]", BALANCER),
        ("192.0.2.1; DROP TABLE", BALANCER),
        ("192.0.2.1" * 1000, BALANCER),
    ],
)
def test_the_rightmost_that_is_not_trusted_is_the_client(forwarded_for: str, client: str) -> None:
    assert TRUSTED.client_of(BALANCER, forwarded_for) == client
    assert TRUSTED.client_of("203.0.113.5", forwarded_for) == "203.0.113.5"
    assert TrustedProxies().client_of(BALANCER, forwarded_for) == BALANCER


def test_networks() -> None:
    trusted = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
    assert [a in trusted for a in ("10.255.0.1", "192.0.2.7", "2001:db8:1::1", "::ffff:10.0.0.1")] == [
        True
    ] * 4
    assert [a in trusted for a in ("11.0.0.1", "192.0.2.8", "2001:db9::1", "", "x")] == [False] * 5
    assert "fe80::1%eth0" in TrustedProxies(["fe80::/10"])
    assert trusted
    assert not TrustedProxies()
    for network in ("10.0.0.1/8", "300.0.0.1", "x"):
        with pytest.raises(ValueError, match=r"does not appear|host bits"):
            TrustedProxies([network])


# Listening


def test_each_listener_has_its_door(opened: OpenedEdge) -> None:
    door = Door(proxied=True, trusted=TrustedProxies(["127.0.0.0/8"]))
    places = (Place("127.0.0.1", 0, Door()), Place("127.0.0.1", 0, door))
    plain, proxied = open_doors(opened.edge, Doors(places))
    try:
        for listener, sent, address in (
            (plain, b"\x03", "127.0.0.1"),
            (proxied, HEADER + b"\x03", "192.0.2.1"),
        ):
            sock = socket.create_connection(("127.0.0.1", listener.port))
            sock.sendall(sent)
            assert opened.until_opened() == ("rtmp", address, b"\x03", False)
            sock.close()
    finally:
        plain.close()
        proxied.close()


def test_where_one_place_cannot_be_none_is_open(opened: OpenedEdge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free, port = socket.create_server(("127.0.0.1", 0)), taken.getsockname()[1]
        free_port = free.getsockname()[1]
        free.close()
        places = (Place("127.0.0.1", free_port, Door()), Place("127.0.0.1", port, Door()))
        with pytest.raises(ListenError):
            open_doors(opened.edge, Doors(places))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port))


# The command line


def doors_from(
    *args: str, base_port: int = 1935, node_id: str = "edge-2", authenticated: bool = False
) -> Doors:
    """What a command line with these options means."""
    made: list[Doors] = []

    @click.command()
    @door_options
    @click.option("--other")
    def serve(**options: Any) -> None:
        made.append(doors_of(options, base_port, node_id, authenticated))
        assert options == {"other": None}

    done = CliRunner().invoke(serve, args, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return made[0]


def places(doors: Doors) -> list[tuple[str, int, bool]]:
    return [(place.host, place.port, place.shared) for place in doors.places]


def test_without_options_there_are_two_ports_that_take_all() -> None:
    doors = doors_from()
    assert places(doors) == [("127.0.0.1", 1935, True), ("127.0.0.1", 1947, False)]
    assert all(place.door.plain and not place.door.proxied for place in doors.places)
    assert (doors.tls, doors.rtmpt) == (None, True)
    assert not doors_from("--no-rtmpt").rtmpt


def test_ports_come_in_the_order_in_which_they_are_told_to_others() -> None:
    doors = doors_from(
        *(
            "--rtmp-port",
            "1",
            "--own-port",
            "2",
            "--rtmpt-port",
            "3",
            "--proxy-protocol",
            "--proxy-port",
            "4",
        ),
        *("--trust", "10.0.0.0/8", "--trust", "::1", "--listen", "127.0.0.1", "--listen", "127.0.0.2"),
    )
    assert [place.port for place in doors.places] == [1, 1, 3, 3, 4, 4, 2, 2]
    assert [place.shared for place in doors.places] == [True] * 4 + [False] * 4
    assert [place.door.proxied for place in doors.places] == [False] * 4 + [True, True, False, False]
    assert all("10.2.3.4" in place.door.trusted and "::1" in place.door.trusted for place in doors.places)
    assert places(doors_from("--proxy-protocol", "--trust", "10.1.1.1"))[1] == ("127.0.0.1", 2047, False)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--listen", "0.0.0.0"], "--listen 0.0.0.0: others than this machine would reach it"),
        (["--listen", "no..such"], "knows no such name"),
        (["--trust", "10.0.0.1/8"], "--trust 10.0.0.1/8: 10.0.0.1/8 has host bits set; expected 10.0.0.0/8"),
        (["--trust", "everybody"], "--trust everybody: .*; expected 10.0.0.0/8 or 10.1.2.3"),
        (
            ["--trust", "::ffff:10.0.0.0/104"],
            "--trust ::ffff:10.0.0.0/104: .* mapped into IPv6; expected it as IPv4",
        ),
        (["--proxy-protocol"], "--proxy-protocol: whose header is believed\\? Give --trust NETWORK"),
        (["--proxy-port", "5"], "--proxy-port 5 without --proxy-protocol; give both"),
        (["--rtmps-port", "443"], "--rtmps-port 443: there is no certificate; give --tls-cert and --tls-key"),
        (["--tls-cert", "a.pem"], "--tls-cert without --tls-key; give both"),
        (["--tls-key", "a.pem"], "--tls-key without --tls-cert; give both"),
        (
            ["--tls-cert", "no.pem", "--tls-key", "no.key"],
            "no.pem: No such file or directory; expected a cert",
        ),
        (["--rtmpt-port", "1935"], "port 1935 is given twice; give each option a port of its own"),
        (["--own-port", "1935"], "port 1935 is given twice"),
    ],
)
def test_what_cannot_be_is_said(args: list[str], text: str) -> None:
    with pytest.raises(OperatorError, match=text) as raised:
        doors_from(*args)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_who_authenticates_or_says_so_may_be_reached_by_all(tmp_path: Path) -> None:
    assert places(doors_from("--listen", "0.0.0.0", "--open"))[0] == ("0.0.0.0", 1935, True)
    assert places(doors_from("--listen", "::", authenticated=True))[0] == ("::", 1935, True)
    with pytest.raises(OperatorError, match="give --own-port"):
        doors_from(node_id="edge-101")
