"""TLS: a socket that looks like one without, versions, certificates that change under load."""

import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent.socket
import gevent.ssl
import pytest
from gevent.event import Event
from headwater_bus.logs import RateLimit
from headwater_edge.closing import LingeringSocket
from headwater_edge.doors import Door, Doors, Place, open_doors, refusals
from headwater_edge.doors.tls import TlsError, TlsStore
from headwater_edge.doors.tls_socket import TlsSocket
from headwater_edge.edge import Edge
from headwater_edge.listener import Listener
from headwater_edge.outbox import Outbox
from headwater_rtmp.connection import Connection
from support.certificates import Certificate, make_certificate
from support.edge import end_all, make_edge
from support.edge_client import warnings
from support.waiting import TIME_FACTOR, eventually


@pytest.fixture(scope="module")
def made(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(tool("openssl"), folder, name) for name in ("first", "second")}


@pytest.fixture
def certificate(made: dict[str, Certificate], tmp_path: Path) -> Certificate:
    """In files of the test's own, that it may change."""
    own = Certificate(tmp_path / "own.pem", tmp_path / "own.key")
    own.become(made["first"])
    return own


@pytest.fixture
def store(certificate: Certificate) -> TlsStore:
    return TlsStore(certificate.certificate, certificate.key)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(refusals, "_limit", RateLimit(0.0))
    yield
    end_all()


class Pair:
    """The edge's TLS on one end of a socket pair, a client's on the other: `client` with its bytes in `sent` and `got`."""

    def __init__(self, store: TlsStore, buffer_bytes: int = 0, version: ssl.TLSVersion | None = None) -> None:
        self.sock, self.raw = socket.socketpair()
        for sock in (self.sock, self.raw):
            sock.setblocking(False)
            if buffer_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version is not None:
            context.maximum_version = version
        self.sent, self.got = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self.got, self.sent)
        self.loop: Any = gevent.get_hub().loop
        self.server = TlsSocket(self.loop, self.raw, store.context)
        self.eof = False

    def carry(self) -> None:
        """What the client has to say goes out, what has come goes in."""
        if data := self.sent.read():
            self.sock.sendall(data)
        try:
            while not self.eof:
                data = self.sock.recv(1 << 20)
                self.got.write(data)
                self.eof = not data
        except BlockingIOError:
            pass

    def handshake(self) -> "Pair":
        while True:
            try:
                self.client.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.carry()
                with pytest.raises(BlockingIOError):
                    self.server.recv(65536)
        self.carry()
        with pytest.raises(BlockingIOError):
            self.server.recv(65536)
        return self

    def say(self, data: bytes) -> None:
        self.client.write(data)
        self.carry()

    def hear(self) -> bytes:
        """All that has come so far."""
        self.carry()
        heard = b""
        try:
            while piece := self.client.read(1 << 20):
                heard += piece
        except ssl.SSLWantReadError:
            pass
        return heard

    def close(self) -> None:
        self.server.close()
        self.sock.close()


@pytest.fixture
def make(store: TlsStore) -> Iterator[Callable[..., Pair]]:
    pairs: list[Pair] = []

    def pair(**options: Any) -> Pair:
        pairs.append(Pair(store, **options))
        return pairs[-1].handshake()

    yield pair
    for each in pairs:
        each.close()


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_go_both_ways(make: Callable[..., Pair], version: ssl.TLSVersion) -> None:
    pair = make(version=version)
    assert pair.client.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
    pair.say(b"hello")
    assert pair.server.recv(65536) == b"hello"
    assert pair.server.send(b"and to you") == 10
    assert pair.server.sendmsg([b"a", memoryview(b"b"), b"c"]) == 3
    assert pair.hear() == b"and to youabc"
    with pytest.raises(BlockingIOError):
        pair.server.recv(65536)


def test_nothing_that_was_decrypted_is_kept_back(make: Callable[..., Pair]) -> None:
    """A level-triggered watcher does not show it."""
    pair = make(buffer_bytes=1 << 20)
    for _ in range(100):
        pair.say(bytes(500))
    assert pair.server.recv(65536) == bytes(50_000)
    pair.client.write(bytes(16_384))
    cut = pair.sent.read()
    pair.sock.sendall(cut[:-1])
    with pytest.raises(BlockingIOError):
        pair.server.recv(65536)
    pair.sock.sendall(cut[-1:])
    # More than was asked for: the rest of the record was here.
    assert pair.server.recv(10) == bytes(16_384)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_shows_behind_what_came_with_it(make: Callable[..., Pair], version: ssl.TLSVersion) -> None:
    """The client says that it ends, and leaves the connection open."""
    pair = make(version=version)
    pair.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.carry()
    heard: list[bytes] = []
    watcher = pair.loop.io(pair.server.fileno(), 1)
    watcher.start(lambda: heard.append(pair.server.recv(65536)))
    eventually(lambda: len(heard) >= 2, 10)
    watcher.stop()
    watcher.close()
    assert heard[:2] == [b"last words", b""]


def test_a_connection_that_just_ends_has_ended(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.hear()
    pair.sock.close()
    assert pair.server.recv(65536) == b""


def test_what_is_broken_is_said_behind_what_came_before_it(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.client.write(b"good")
    pair.sock.sendall(pair.sent.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert pair.server.recv(65536) == b"good"
    for _ in range(2):
        with pytest.raises(OSError, match=r"TLS: decryption failed or bad record mac"):
            pair.server.recv(65536)


def test_what_is_no_tls_is_said(store: TlsStore) -> None:
    pair = Pair(store)
    pair.sock.sendall(b"\x16\x03\x01\x00\x05hello")
    with pytest.raises(OSError, match="TLS: ") as raised:
        pair.server.recv(65536)
    assert raised.value.strerror
    assert pair.sock.recv(100)[:1] == b"\x15"  # An alert.
    pair.close()


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_what_the_socket_does_not_take_is_kept_and_leaves_by_itself(
    make: Callable[..., Pair], size: int
) -> None:
    pair = make(buffer_bytes=20_000)
    data = os.urandom(size)
    sent = pair.server.send(data)
    assert 20_000 < sent < min(size + 1, 400_000)
    with pytest.raises(BlockingIOError):
        pair.server.send(data[sent:])
    # Nobody calls it any more; the loop does.
    heard = b""

    def more() -> bool:
        nonlocal heard
        heard += pair.hear()
        return len(heard) == sent

    eventually(more, 10)
    assert heard == data[:sent]


def is_told_the_end(pair: Pair) -> bool:
    """Whether the client knows from TLS that nothing more comes."""
    try:
        return pair.client.read(1) == b""
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLWantReadError:
        return False


def test_an_outbox_works_on_it(make: Callable[..., Pair]) -> None:
    pair = make(buffer_bytes=20_000)
    data = os.urandom(2_000_000)
    outbox = Outbox(pair.loop, pair.server, lambda: outbox.send())  # type: ignore[arg-type]
    for at in range(0, len(data), 1000):
        outbox.put(data[at : at + 1000])
    outbox.send()
    assert outbox.full
    heard = b""

    def more() -> bool:
        nonlocal heard
        heard += pair.hear()
        return len(heard) == len(data)

    eventually(more, 30)
    assert heard == data
    assert not outbox.backlog_bytes


def test_a_lingering_socket_works_on_it(make: Callable[..., Pair]) -> None:
    """All that was queued leaves, then our half is closed, in TLS and below, then the client's end is waited for."""
    pair = make(buffer_bytes=20_000)
    data = os.urandom(300_000)
    outbox = Outbox(pair.loop, pair.server, lambda: None)  # type: ignore[arg-type]
    outbox.put(data)
    done: list[LingeringSocket] = []
    lingering = LingeringSocket(pair.loop, pair.server, "203.0.113.5", outbox, 0.0, done.append)
    heard = b""

    def more() -> bool:
        nonlocal heard
        try:
            heard += pair.hear()
        except ssl.SSLZeroReturnError:
            pass
        return pair.eof

    pair.say(b"unread")
    eventually(more, 10)
    assert heard == data
    assert is_told_the_end(pair)
    pair.sock.sendall(b"still there")

    def is_read() -> bool:
        try:
            return not pair.raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True

    eventually(is_read, 10)
    assert not lingering.ended
    pair.sock.close()
    eventually(lambda: done == [lingering], 10)
    assert pair.server.fileno() == -1


def test_renegotiation_is_refused(made: dict[str, Certificate], tool: Callable[[str], str]) -> None:
    with Served(made["first"]) as served:
        text = served.openssl(tool, "-tls1_2", said="R\n")
        assert "no renegotiation" in text


def test_a_client_that_makes_the_protocol_talk_without_listening_is_refused(
    make: Callable[..., Pair],
) -> None:
    pair = make()
    # As much as its answers to requests for new keys would be.
    pair.server._out.write(bytes(400_000))
    pair.server._sock = FullSocket(pair.raw)
    pair.sock.sendall(b"x")
    with pytest.raises(OSError, match="asks for more answers than it reads"):
        pair.server.recv(65536)
    pair.server._sock = pair.raw


class FullSocket:
    """One that takes nothing."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def send(self, data: bytes) -> int:
        raise BlockingIOError


def test_a_half_that_is_only_read_cannot_be_closed(make: Callable[..., Pair]) -> None:
    with pytest.raises(ValueError, match=r"shutdown\(2\): only the half that is written can be ended"):
        make().server.shutdown(socket.SHUT_RDWR)


# Against clients of others


class Served:
    """An edge that listens with a certificate, and clients of it that run beside the loop."""

    def __init__(self, certificate: Certificate, **settings: Any) -> None:
        self.store = TlsStore(certificate.certificate, certificate.key)
        self.edge: Edge = make_edge(**settings)[0]
        place = Place("127.0.0.1", 0, Door(tls=self.store))
        self.listener: Listener = open_doors(self.edge, Doors((place,), self.store))[0]

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *error: object) -> None:
        self.store.close()
        self.listener.close()

    def openssl(self, tool: Callable[[str], str], *options: str, said: str = "") -> str:
        """What `openssl s_client` prints, that says something."""
        command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.listener.port}", *options]
        printed: list[str] = []

        def run() -> None:
            done = subprocess.run(
                command,
                input=said,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=30 * TIME_FACTOR,
                check=False,
            )
            printed.append(done.stdout)

        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda: printed, 60, "openssl")
        thread.join()
        return printed[0]


class HealthClient:
    """Asks for the health within TLS; in the loop, as all that it waits for is gevent's."""

    def __init__(self, served: Served) -> None:
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = gevent.socket.create_connection(("127.0.0.1", served.listener.port), 30 * TIME_FACTOR)
        self.tls: Any = context.wrap_socket(sock)

    def __enter__(self) -> "HealthClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.tls.close()

    def ask(self) -> str:
        """Whose certificate it got."""
        self.tls.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert self.tls.recv(1000).startswith(b"HTTP/1.1 200 OK")
        return "second" if b"second" in self.tls.getpeercert(binary_form=True) else "first"


def subject(served: Served) -> str:
    """Whose certificate a new connection gets."""
    with HealthClient(served) as client:
        return client.ask()


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("-tls1_2", "Protocol  : TLSv1.2"),
        ("-tls1_3", "New, TLSv1.3"),
        ("-tls1_1", "no peer certificate available"),
        ("-tls1", "no peer certificate available"),
    ],
)
def test_versions(made: dict[str, Certificate], tool: Callable[[str], str], option: str, shown: str) -> None:
    """Older ones than 1.2 are refused, also to a client that would take any cipher."""
    with Served(made["first"]) as served:
        text = served.openssl(tool, option, "-cipher", "ALL:@SECLEVEL=0", said="Q\n")
        assert shown in text
        assert ("CN = first" in text) == (option in ("-tls1_2", "-tls1_3"))
        eventually(lambda: served.edge.admission.count == 0, 10)


def test_rtmp_within_tls(made: dict[str, Certificate]) -> None:
    with Served(made["first"]) as served:
        context: Any = gevent.ssl.create_default_context(cafile=str(made["first"].certificate))
        sock = gevent.socket.create_connection(("127.0.0.1", served.listener.port), 30 * TIME_FACTOR)
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            rtmp = Connection.client()
            while not rtmp.handshaken:
                tls.sendall(rtmp.data_to_send())
                rtmp.feed(tls.recv(65536))
                rtmp.next_event()
        eventually(lambda: served.edge.clients == {}, 10)
        assert served.edge.counters.connections_closed == 1
        assert served.edge.counters.protocol_errors == 0


def test_tls_within_tls_is_no_rtmp(made: dict[str, Certificate], caplog: pytest.LogCaptureFixture) -> None:
    with Served(made["first"]) as served:
        with HealthClient(served) as client:
            client.tls.sendall(b"\x16" + bytes(2000))
            assert client.tls.recv(1000) == b""
        assert served.edge.counters.protocol_errors == 1
        assert served.edge.counters.connections_closed == 1


def test_a_handshake_that_does_not_come_is_closed_in_time(made: dict[str, Certificate]) -> None:
    with Served(made["first"], handshake_s=5) as served:
        sock = socket.create_connection(("127.0.0.1", served.listener.port))
        sock.sendall(b"\x16\x03\x01")
        eventually(lambda: served.edge.openings, 10)
        (opening,) = served.edge.openings
        opening.check(opening._deadline + 0.1)
        assert sock.recv(1) == b""
        sock.close()
        assert served.edge.admission.count == 0


def test_who_breaks_the_handshake_is_refused(
    made: dict[str, Certificate], caplog: pytest.LogCaptureFixture
) -> None:
    with Served(made["first"]) as served:
        with socket.create_connection(("127.0.0.1", served.listener.port)) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x05hello")
            eventually(lambda: served.edge.counters.connections_refused, 10)
        (reason,) = warnings(caplog)
        assert reason.startswith("socket: TLS: ")
        assert served.edge.admission.count == 0


# Certificates that change


def test_a_certificate_that_changes_is_taken_over_under_load(
    made: dict[str, Certificate], certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """New connections get the new one; none fails, and one that was there goes on."""
    caplog.set_level("INFO")
    with Served(certificate) as served:
        asked: list[str] = []
        enough = Event()

        def load() -> None:
            while not enough.is_set():
                asked.append(subject(served))

        with HealthClient(served) as kept:
            assert kept.ask() == "first"
            clients = [gevent.spawn(load) for _ in range(3)]
            eventually(lambda: asked.count("first") > 10, 30)
            certificate.become(made["second"])
            served.store.look()
            served.store.look()
            eventually(lambda: asked.count("second") > 10, 30)
            assert kept.ask() == "first"
            assert not any(client.dead for client in clients)
            # Killed in the middle of connecting they would leave sockets open.
            enough.set()
            gevent.joinall(clients, raise_error=True)
        # Who began its handshake before may be answered behind the first that began after.
        assert "first" not in asked[asked.index("second") + 3 :]
        assert [record.getMessage() for record in caplog.records] == ["certificate loaded"]
        eventually(lambda: served.edge.admission.count == 0, 10)


def test_the_files_are_looked_at_by_themselves(
    made: dict[str, Certificate], certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_edge.doors.tls.SETTLED_S", 0.01)
    with Served(certificate) as served:
        assert subject(served) == "first"
        certificate.become(made["second"])
        eventually(lambda: subject(served) == "second", 10)


def test_a_signal_has_them_read_at_once(made: dict[str, Certificate], certificate: Certificate) -> None:
    with Served(certificate) as served:
        before = served.store.context
        certificate.become(made["second"])
        os.kill(os.getpid(), signal.SIGHUP)
        eventually(lambda: served.store.context is not before, 1.5)
        assert subject(served) == "second"


def test_files_that_change_are_waited_for(
    made: dict[str, Certificate], certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """A look between the certificate and its key does no harm."""
    store = TlsStore(certificate.certificate, certificate.key)
    before = store.context
    certificate.certificate.write_bytes(made["second"].certificate.read_bytes())
    store.look()
    certificate.key.write_bytes(made["second"].key.read_bytes())
    store.look()
    assert store.context is before
    store.look()
    assert store.context is not before
    after = store.context
    store.look()
    assert store.context is after
    assert caplog.records == []


@pytest.mark.parametrize("damage", ["garbage", "gone", "mismatch"])
def test_files_that_cannot_be_used_change_nothing_and_are_said_once(
    made: dict[str, Certificate], certificate: Certificate, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    store = TlsStore(certificate.certificate, certificate.key)
    before = store.context
    if damage == "garbage":
        certificate.certificate.write_text("none")
    elif damage == "gone":
        certificate.key.unlink()
    else:
        certificate.key.write_bytes(made["second"].key.read_bytes())
    for _ in range(5):
        store.look()
    assert store.context is before
    assert [record.getMessage() for record in caplog.records] == [
        "certificate not loaded, the one before stays"
    ]
    certificate.become(made["second"])
    for _ in range(2):
        store.look()
    assert store.context is not before


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("garbage", "own.pem, .*own.key: .*expected a certificate chain and its private key, PEM"),
        ("no key", "own.key: No such file or directory; expected a private key, PEM"),
        ("folder", "own.pem: Is a directory; expected a certificate chain, PEM"),
        ("mismatch", "key values mismatch; expected"),
        ("encrypted", "the key is encrypted, expected one without a pass phrase"),
    ],
)
def test_what_cannot_be_used_at_the_start_is_said(
    made: dict[str, Certificate], certificate: Certificate, tool: Callable[[str], str], damage: str, text: str
) -> None:
    if damage == "garbage":
        certificate.certificate.write_text("none")
    elif damage == "no key":
        certificate.key.unlink()
    elif damage == "folder":
        certificate.certificate.unlink()
        certificate.certificate.mkdir()
    elif damage == "mismatch":
        certificate.key.write_bytes(made["second"].key.read_bytes())
    else:
        command = [tool("openssl"), "pkey", "-aes256", "-passout", "pass:secret"]
        command += ["-in", str(made["first"].key), "-out", str(certificate.key)]
        subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(TlsError, match=text) as raised:
        TlsStore(certificate.certificate, certificate.key)
    assert "\n" not in str(raised.value)
