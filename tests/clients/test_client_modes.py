"""headwater-client by rtmp, rtmps, rtmpt and rtmpts, through a whole cluster."""

from collections.abc import Callable, Iterator

import gevent
import pytest
from headwater_client import NetConnection, probe
from headwater_rtmp.message import Message
from support.certificates import Certificate, make_certificate
from support.cluster import Cluster, ending_well
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.clients
SCHEMES = ("rtmp", "rtmps", "rtmpt", "rtmpts")
FRAMES = 100
KEY, INTER = b"\x17\x01\0\0\0", b"\x27\x01\0\0\0"


@pytest.fixture(scope="module")
def certificate(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tool("openssl"), tmp_path_factory.mktemp("certificate"), "edge")


@pytest.fixture(scope="module")
def cluster(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    options = {"edge": f"--tls-cert {certificate.certificate} --tls-key {certificate.key}"}
    with ending_well(Cluster(tmp_path_factory.mktemp("modes"), {"origin": 1}, options)) as running:
        yield running


def by(scheme: str, cluster: Cluster, edge: int, path: str) -> str:
    return cluster.rtmp_url(edge, path).replace("rtmp://", f"{scheme}://", 1)


def test_what_is_set_by_one_way_shows_by_all(cluster: Cluster, certificate: Certificate) -> None:
    opened = [
        NetConnection(by(scheme, cluster, 1 + number % 2, "live/board"), ca_file=str(certificate.certificate))
        for number, scheme in enumerate(SCHEMES)
    ]
    for connection in opened:
        connection.connect()
    boards = [connection.shared_object("board") for connection in opened]
    for number in range(20):
        for scheme, board in zip(SCHEMES, boards, strict=True):
            board[scheme] = float(number)
    for board in boards:
        board.flush()
    for board in boards:
        eventually(lambda: dict(board) == dict.fromkeys(SCHEMES, 19.0), 10)  # noqa: B023 - waited for here
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_published_by_one_way_is_played_by_all(
    cluster: Cluster, certificate: Certificate, scheme: str
) -> None:
    ca_file = str(certificate.certificate)
    with NetConnection(by(scheme, cluster, 1, "live"), ca_file=ca_file) as publishing:
        stream = publishing.create_stream()
        stream.publish(f"from-{scheme}")
        players = []
        for number, other in enumerate(SCHEMES):
            connection = NetConnection(by(other, cluster, 1 + number % 2, "live"), ca_file=ca_file)
            connection.connect()
            player = connection.create_stream()
            player.play(stream.name)
            players.append((connection, gevent.spawn(list, player.messages(10 * TIME_FACTOR))))
        sent = [
            Message(9, 0, at * 40, (INTER if at % 10 else KEY) + str(at).encode() * 300)
            for at in range(FRAMES)
        ]
        for message in sent:
            stream.send_message(message)
            gevent.sleep(0.01)
        stream.close()
        for connection, playing in players:
            got = [message.payload for message in playing.get() if message.type_id == 9]
            assert got == [message.payload for message in sent]
            connection.close()


def test_all_ways_are_found(cluster: Cluster, certificate: Certificate) -> None:
    port = int(cluster.rtmp_url(1, "").split(":")[2].strip("/"))
    ways = [(scheme, port) for scheme in SCHEMES]
    tried = list(probe("rtmp://127.0.0.1/live", ways, ca_file=str(certificate.certificate)))
    assert [(one.scheme, one.accepted) for one in tried] == [(scheme, True) for scheme in SCHEMES]
