"""CURVE on links and requests, the ZapHandler, and the command that makes keys."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import msgpack
import pytest
import zmq.green as zmq
from click.testing import CliRunner
from headwater_bus.control import Done, GroupLoads, GroupLoadsRequest, HealthRequest, Refused, Release
from headwater_bus.keys import main
from headwater_bus.link import LinkOptions
from headwater_bus.node import Node, NodeConfig
from headwater_bus.requests import Requester, RequestError, RequestServer
from headwater_bus.security import Security, SecurityError, ZapHandler
from headwater_bus.traffic import Detach
from support.waiting import TIME_FACTOR, eventually

from .conftest import Edge, Origin, end_context, make_context

ANSWER_S = 10.0 * TIME_FACTOR


def make_keys(folder: Path, *nodes: str) -> Path:
    done = CliRunner().invoke(main, ["make", str(folder), *nodes])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("k") / "keys", "registry-1", "origin-1", "edge-1", "edge-2")


@pytest.fixture(scope="module")
def strange_keys(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """Keys of somebody else, who knows the public keys of the cluster."""
    folder = make_keys(tmp_path_factory.mktemp("s") / "keys", "edge-9")
    for path in (keys / "public").iterdir():
        (folder / "public" / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def zap_handler(context: Any, keys: Path) -> Iterator[ZapHandler]:
    made = ZapHandler(context, keys)
    job = gevent.spawn(made.run)
    yield made
    made.close()
    job.kill()


@pytest.fixture
def clients() -> Iterator[Any]:
    """The context of those who connect: a ZapHandler guards its own context only."""
    made = make_context()
    yield made
    end_context(made)


def warnings(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if text in record.getMessage()]


def test_a_link_with_keys(context: Any, clients: Any, keys: Path, zap_handler: ZapHandler) -> None:
    origin = Origin(context, security=Security.from_keys(keys, "origin-1"))
    edge = Edge(clients, origin.endpoint, security=Security.from_keys(keys, "edge-1"))
    edge.link.send(Detach(1, "a"))
    eventually(lambda: origin.got.get("edge-1") == [Detach(1, "a")], within_s=10)
    edge.link.close("done")
    origin.close()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_link_over_ipv6(context: Any, clients: Any, keys: Path, encrypted: bool) -> None:
    zap_handler = ZapHandler(context, keys)
    job = gevent.spawn(zap_handler.run)

    def security(node_id: str) -> Security:
        return Security.from_keys(keys, node_id) if encrypted else Security.plain()

    origin = Origin(context, endpoint="tcp://[::1]:*", security=security("origin-1"))
    assert origin.endpoint.startswith("tcp://[::1]:")
    edge = Edge(clients, origin.endpoint, security=security("edge-1"))
    edge.link.send(Detach(1, "a"))
    eventually(lambda: origin.got.get("edge-1") == [Detach(1, "a")], within_s=10)
    edge.link.close("done")
    origin.close()
    zap_handler.close()
    job.kill()


@pytest.mark.parametrize("encrypted", ["edge", "origin"])
def test_a_link_with_keys_on_one_side_only_says_so(
    context: Any, clients: Any, keys: Path, zap_handler: ZapHandler, encrypted: str
) -> None:
    plain = Security.plain()
    origin = Origin(
        context, security=Security.from_keys(keys, "origin-1") if encrypted == "origin" else plain
    )
    edge = Edge(
        clients,
        origin.endpoint,
        security=Security.from_keys(keys, "edge-1") if encrypted == "edge" else plain,
        options=LinkOptions(heartbeat_s=0.1, timeout_s=30.0 * TIME_FACTOR),
    )
    eventually(lambda: edge.downs, within_s=10)
    here = "with" if encrypted == "edge" else "without"
    assert edge.downs == [
        f"ZeroMQ gave up the connection to {origin.endpoint}: expected --keys at both ends or at neither "
        f"(here: {here}), and frames of 67108864 bytes at most"
    ]
    assert edge.ups == 0
    origin.close()


def test_an_unknown_key_is_refused_and_logged_once(
    context: Any,
    clients: Any,
    keys: Path,
    strange_keys: Path,
    zap_handler: ZapHandler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    origin = Origin(context, security=Security.from_keys(keys, "origin-1"))
    strange = Security.from_keys(strange_keys, "edge-9")
    strangers = [Edge(clients, origin.endpoint, node_id="edge-9", security=strange) for _ in range(3)]
    eventually(lambda: zap_handler.refused >= 3, within_s=10)
    assert (origin.ups, [edge.ups for edge in strangers]) == ([], [0, 0, 0])
    refused = warnings(caplog, "unknown key")
    assert len(refused) == 1
    assert refused[0]["address"] == "127.0.0.1"
    plain = Edge(clients, origin.endpoint, node_id="edge-2")
    edge = Edge(clients, origin.endpoint, security=Security.from_keys(keys, "edge-1"))
    eventually(lambda: edge.ups, within_s=10)
    assert (len(origin.ups), plain.ups) == (1, 0)
    for other in (*strangers, plain, edge):
        other.link.close("done")
    origin.close()


def test_a_hello_with_the_name_of_another_is_refused(
    context: Any, clients: Any, keys: Path, zap_handler: ZapHandler, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Origin(context, security=Security.from_keys(keys, "origin-1"))
    liar = Edge(clients, origin.endpoint, node_id="edge-1", security=Security.from_keys(keys, "edge-2"))
    eventually(lambda: liar.downs, within_s=10)
    assert "the key is that of 'edge-2'" in liar.downs[0]
    assert origin.ups == []
    assert len(warnings(caplog, "link message refused")) == 1
    origin.close()


def test_the_identity_of_another_link_is_of_no_use(
    context: Any, clients: Any, keys: Path, zap_handler: ZapHandler
) -> None:
    origin = Origin(context, security=Security.from_keys(keys, "origin-1"))
    edge = Edge(clients, origin.endpoint, security=Security.from_keys(keys, "edge-1"))
    eventually(lambda: edge.ups, within_s=10)
    thief = clients.socket(zmq.DEALER)
    thief.set(zmq.IDENTITY, edge.link.id)
    Security.from_keys(keys, "edge-2").apply_client(thief, "origin-1")
    thief.connect(origin.endpoint)
    thief.send_multipart([msgpack.packb([2, 1, 0]), msgpack.packb([[4, 666, "stolen"]])])
    eventually(lambda: origin.links.refused, within_s=10)
    assert origin.got == {}
    thief.close(linger=0)
    edge.link.close("done")
    origin.close()


def test_a_server_with_another_key_gets_nothing(
    context: Any, clients: Any, keys: Path, zap_handler: ZapHandler
) -> None:
    """The registry's address may be taken by another node with a key of the cluster."""
    got: list[Any] = []
    server = RequestServer(
        context,
        Security.from_keys(keys, "edge-2"),
        {Release: lambda caller, message: got.append(message) or Done()},  # type: ignore[func-returns-value]  # an act and a look in one expression
    )
    endpoint = server.bind("tcp://127.0.0.1:*")
    jobs = [gevent.spawn(job) for _, job in server.jobs()]
    requester = Requester(clients, Security.from_keys(keys, "origin-1"), endpoint, "registry-1")
    with pytest.raises(RequestError, match="no answer"):
        requester.request(Release("g", 1), 0.5)
    assert got == []
    requester.close()
    right = Requester(clients, Security.from_keys(keys, "origin-1"), endpoint, "edge-2")
    assert right.request(Release("g", 1), ANSWER_S) == Done()
    right.close()
    server.close()
    gevent.killall(jobs)


def test_requests_carry_the_name_on_the_key(
    context: Any, clients: Any, keys: Path, zap_handler: ZapHandler
) -> None:
    users: list[str | None] = []
    server = RequestServer(
        context,
        Security.from_keys(keys, "registry-1"),
        {Release: lambda caller, message: users.append(caller.user) or Done()},  # type: ignore[func-returns-value]  # an act and a look in one expression
    )
    endpoint = server.bind("tcp://127.0.0.1:*")
    jobs = [gevent.spawn(job) for _, job in server.jobs()]
    requester = Requester(clients, Security.from_keys(keys, "origin-1"), endpoint, "registry-1")
    assert requester.request(Release("g", 1), ANSWER_S) == Done()
    assert users == ["origin-1"]
    requester.close()
    server.close()
    gevent.killall(jobs)


def test_a_control_endpoint_answers_some_requests_to_one_role_only(
    clients: Any, keys: Path, tmp_path: Path
) -> None:
    serving = Node(NodeConfig("origin-1", "origin", ("tcp://127.0.0.1:1",), 1935, tmp_path, keys=keys))
    serving.on_request(GroupLoadsRequest, lambda caller, request: GroupLoads([]), role="edge")
    serving.on_request(Release, lambda caller, request: Done())
    endpoint = serving.health_server.bind("tcp://127.0.0.1:*")
    answers: dict[str, Any] = {}
    for name in ("edge-1", "registry-1"):
        requester = Requester(clients, Security.from_keys(keys, name), endpoint, "origin-1")
        answers[name] = requester.request(GroupLoadsRequest(), ANSWER_S)
        assert requester.request(Release("g", 1), ANSWER_S) == Done()
        requester.close()
    assert answers["edge-1"] == GroupLoads([])
    assert answers["registry-1"].code == "not-allowed"
    assert "only who has the key of edge-NAME may, this one is registry-1's" in answers["registry-1"].text
    serving.close()


def test_a_connection_with_keys_is_known_by_its_number_when_it_goes(
    context: Any, clients: Any, keys: Path, zap_handler: ZapHandler
) -> None:
    asked: list[int] = []
    gone: list[int] = []
    server = RequestServer(
        context,
        Security.from_keys(keys, "registry-1"),
        {Release: lambda caller, message: asked.append(caller.connection) or Done()},  # type: ignore[func-returns-value]  # an act and a look in one expression
        gone.append,
    )
    endpoint = server.bind("tcp://127.0.0.1:*")
    jobs = [gevent.spawn(job) for _, job in server.jobs()]
    lost: list[bool] = []
    made = [
        Requester(
            clients, Security.from_keys(keys, name), endpoint, "registry-1", on_lost=lambda: lost.append(True)
        )
        for name in ("origin-1", "edge-1")
    ]
    for requester in made:
        assert requester.request(Release("g", 1), ANSWER_S) == Done()
    made[1].close()
    eventually(lambda: gone == [asked[1]], within_s=10)
    assert (asked[0] != asked[1], lost) == (True, [])
    server.close()
    eventually(lambda: lost, within_s=10)
    with pytest.raises(RequestError, match="is lost"):
        made[0].request(Release("g", 1), ANSWER_S)
    gevent.killall(jobs)


def test_without_a_zap_handler_nobody_comes_in(context: Any, clients: Any, keys: Path) -> None:
    origin = Origin(context, security=Security.from_keys(keys, "origin-1"))
    monitor = origin.links._socket.raw.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    edge = Edge(clients, origin.endpoint, security=Security.from_keys(keys, "edge-1"))
    eventually(lambda: monitor.poll(0), within_s=10)
    origin.links._socket.raw.disable_monitor()
    monitor.close()
    assert (origin.ups, edge.ups) == ([], 0)
    edge.link.close("done")
    origin.close()


def test_a_key_that_is_added_is_known_at_once(context: Any, clients: Any, tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "origin-1", "edge-1")
    zap_handler = ZapHandler(context, keys)
    job = gevent.spawn(zap_handler.run)
    origin = Origin(context, security=Security.from_keys(keys, "origin-1"))
    edge = Edge(clients, origin.endpoint, security=Security.from_keys(keys, "edge-1"))
    eventually(lambda: edge.ups, within_s=10)
    # Half a file, as while it is copied, keeps nobody out for good.
    make_keys(keys, "edge-2")
    path = keys / "public" / "edge-2.key"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    security = Security.from_keys(keys, "edge-2")
    early = Edge(clients, origin.endpoint, node_id="edge-2", security=security)
    eventually(lambda: zap_handler.refused, within_s=10)
    path.write_bytes(whole)
    late = Edge(clients, origin.endpoint, node_id="edge-2", security=security)
    eventually(lambda: late.ups, within_s=10)
    for other in (edge, early, late):
        other.link.close("done")
    origin.close()
    zap_handler.close()
    job.kill()


def test_two_nodes_with_keys_in_one_process(
    clients: Any, keys: Path, strange_keys: Path, tmp_path: Path
) -> None:
    def node(node_id: str, registry: str) -> Node:
        role = node_id.partition("-")[0]
        return Node(NodeConfig(node_id, role, (registry,), 1935, tmp_path, keys=keys))

    serving = node("registry-1", "tcp://127.0.0.1:1")
    endpoint = serving.health_server.bind("tcp://127.0.0.1:*")
    asking = node("edge-1", endpoint)
    requester = Requester(asking.context, asking.security, endpoint, "registry-1")
    health = requester.request(HealthRequest(), ANSWER_S)
    assert health.state["node_id"] == "registry-1"
    assert (health.state["bad_requests"], health.state["unknown_keys"]) == (0, 0)
    # What was refused is counted where an operator sees it.
    assert isinstance(requester.request(Release("g", 1), ANSWER_S), Refused)
    stranger = Requester(clients, Security.from_keys(strange_keys, "edge-9"), endpoint, "registry-1")
    eventually(lambda: serving._zap is not None and serving._zap.refused, within_s=10)
    stranger.close()
    health = requester.request(HealthRequest(), ANSWER_S)
    assert health.state["bad_requests"] == 1
    assert health.state["unknown_keys"] >= 1
    requester.close()
    asking.close()
    serving.close()


def test_keys_are_for_their_owner_only(keys: Path) -> None:
    assert keys.stat().st_mode & 0o777 == 0o700
    for path in keys.glob("*.key_secret"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (keys / "public").iterdir()} == {
        f"{node}.key" for node in ("registry-1", "origin-1", "edge-1", "edge-2")
    }
    for path in (keys / "public").iterdir():
        assert Security.from_keys(keys, path.stem)._secret not in path.read_bytes()


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (["edge-1"], "is there already; delete it"),
        (["edge-5", "edge-1"], "is there already"),
        (["../edge-5"], "expected one of registry"),
        (["edge-../../x"], "expected one of registry"),
        (["edge"], "expected one of registry"),
        (["client-1"], "expected one of registry"),
        (["edge-5", "edge-5"], "was given 2 times"),
    ],
)
def test_make_refuses_and_writes_nothing(keys: Path, nodes: list[str], says: str) -> None:
    before = sorted(os.walk(keys))
    secret = (keys / "edge-1.key_secret").read_bytes()
    done = CliRunner().invoke(main, ["make", str(keys), *nodes])
    assert done.exit_code == 2
    assert says in done.output
    assert len(done.output.splitlines()) == 1
    assert sorted(os.walk(keys)) == before
    assert (keys / "edge-1.key_secret").read_bytes() == secret


def test_make_refuses_folders_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    for name, says in (("file", "expected a folder"), ("open", "chmod 700"), ("file/under", "file")):
        done = CliRunner().invoke(main, ["make", str(tmp_path / name), "edge-1"])
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1), done.output
        assert says in done.output


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "edge-1")
    (keys / "edge-1.key_secret").chmod(0o640)
    with pytest.raises(SecurityError, match=r"mode 640\), expected 600: chmod 600 it"):
        Security.from_keys(keys, "edge-1")
    with pytest.raises(SecurityError, match=r"not there.*headwater-keys make"):
        Security.from_keys(keys, "edge-2")
    (keys / "edge-1.key_secret").write_text("nonsense")
    (keys / "edge-1.key_secret").chmod(0o600)
    with pytest.raises(SecurityError, match="key_secret"):
        Security.from_keys(keys, "edge-1")
