"""NetConnection within TLS: whose certificate is taken."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gevent import ssl
from headwater_client import ConnectError, NetConnection
from support.certificates import Certificate, make_certificate
from support.waiting import eventually
from unit.client_server import FakeServer, fake_server


@pytest.fixture
def certificate(tool: Callable[[str], str], tmp_path: Path) -> Certificate:
    return make_certificate(tool("openssl"), tmp_path, "edge")


@pytest.fixture
def server(certificate: Certificate) -> Iterator[FakeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with fake_server(ssl_context=context) as running:
        yield running


def urls(server: FakeServer, host: str = "127.0.0.1") -> list[str]:
    return [f"rtmps://{host}:{server.port}/live", f"rtmpts://{host}:{server.front.port}/live"]


def test_a_certificate_of_somebody_who_is_believed(server: FakeServer, certificate: Certificate) -> None:
    for number, url in enumerate(urls(server, "localhost")):
        with NetConnection(url, ca_file=str(certificate.certificate)) as connection:
            assert connection.call("double", 2.0) == 4.0
            stream = connection.create_stream()
            stream.publish("a")
            for at in range(100):
                stream.send_video(bytes(20_000), at)
        # What was sent last has arrived, too.
        assert len(server.peers[number].media) == 100
        eventually(server.peers[number].gone.is_set, 10)
        told = server.peers[number].connect
        assert told is not None
        assert told.command_object["tcUrl"] == url


def test_anybodys_where_it_is_asked_for(server: FakeServer) -> None:
    for url in urls(server):
        with NetConnection(url, insecure=True) as connection:
            assert connection.call("double", 2.0) == 4.0


def test_nobody_elses(
    server: FakeServer, certificate: Certificate, tool: Callable[[str], str], tmp_path: Path
) -> None:
    other = make_certificate(tool("openssl"), tmp_path, "other")
    for url in urls(server):
        for ca_file in (None, str(other.certificate)):
            with pytest.raises(
                ConnectError, match=r"127\.0\.0\.1:\d+: the certificate is not accepted: self"
            ):
                NetConnection(url, ca_file=ca_file).connect()
    for url in urls(server, "127.1"):  # The same address, by a name that the certificate does not have.
        with pytest.raises(ConnectError, match=r"the certificate is not accepted: Hostname mismatch"):
            NetConnection(url, ca_file=str(certificate.certificate)).connect()
    assert server.peers == []


def test_files_without_certificates(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name, said in (("missing.pem", "No such file"), ("empty.pem", "")):
        with pytest.raises(ConnectError, match=f"{name}: .*{said}"):
            NetConnection(urls(server)[0], ca_file=str(tmp_path / name)).connect()


def test_who_speaks_no_tls() -> None:
    with fake_server() as plain:
        for url in urls(plain):
            with pytest.raises(ConnectError, match=r"127\.0\.0\.1:\d+: "):
                NetConnection(url, insecure=True, timeout_s=1.0).connect()


def test_a_lost_connection_within_tls_is_made_again(server: FakeServer, certificate: Certificate) -> None:
    url = urls(server)[0]
    with NetConnection(url, ca_file=str(certificate.certificate), reconnect=True) as connection:
        server.peers[0].sock.close()
        eventually(lambda: connection.reconnects == 1, 10)
        assert connection.call("double", 2.0) == 4.0
