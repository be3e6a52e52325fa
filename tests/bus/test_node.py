"""The node runtime against a registry that the test plays, and as a process under signals."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq.green as zmq
from click.testing import CliRunner
from headwater_bus.control import (
    Assigned,
    AssignRequest,
    Changed,
    Done,
    GroupLoads,
    GroupLoadsRequest,
    Health,
    HealthRequest,
    Leave,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Snapshot,
    Subscribe,
    Suspect,
)
from headwater_bus.keys import main as keys_main
from headwater_bus.node import AssignError, Node, NodeConfig
from headwater_bus.requests import BindError, Caller, Requester, RequestError, RequestServer, ask
from headwater_bus.security import Security, SecurityError, ZapHandler
from support.waiting import TIME_FACTOR, eventually

PLAIN = Security.plain()


class FakeRegistry:
    """A registry that answers what the test wants."""

    def __init__(self, context: Any, endpoint: str = "tcp://127.0.0.1:*", security: Security = PLAIN) -> None:
        self.nodes: list[list[Any]] = []
        self.groups: list[list[Any]] = []
        self.seq = 5
        self.asked: list[Any] = []
        self.known: set[str] = set()
        self.subscribers: set[bytes] = set()
        kinds = (Register, Renew, Leave, Subscribe, Release, Suspect, HealthRequest)
        self.busy = 0
        self.leading: bool | None = None
        self.server = RequestServer(context, security, dict.fromkeys(kinds, self._answer))
        self.endpoint = self.server.bind(endpoint)
        self._jobs = [gevent.spawn(job) for _, job in self.server.jobs()]

    def _answer(self, caller: Caller, message: Any) -> Any:
        if isinstance(message, HealthRequest):
            return Health({} if self.leading is None else {"leading": self.leading})
        self.asked.append(message)
        if self.leading is False:
            return Refused("standby", "this registry does not lead: another one does; ask another one")
        if isinstance(message, Register):
            self.known.add(message.node_id)
            return Registered(3000)
        if isinstance(message, Renew):
            known = message.node_id in self.known
            return Registered(3000) if known else Refused("unknown-node", "who is that?")
        if isinstance(message, Subscribe):
            if self.busy > 0:
                self.busy -= 1
                return Refused("busy", "10000 requests wait here, ask again")
            self.subscribers.add(caller.identity)
            return Snapshot("feed", self.seq, self.nodes, self.groups)
        return Done()

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.asked)

    def tell(self, *changes: list[Any], skip: int = 0) -> None:
        self.seq += 1 + skip
        self.server.push(self.subscribers, Changed("feed", self.seq, list(changes)))

    def close(self) -> None:
        self.server.close()
        gevent.killall(self._jobs)


@pytest.fixture
def registry(context: Any) -> Iterator[FakeRegistry]:
    made = FakeRegistry(context)
    yield made
    made.close()


class Nodes:
    """Makes nodes, and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Node] = []

    def make(self, *registries: str, node_id: str = "edge-1", **more: Any) -> Node:
        role = node_id.partition("-")[0]
        settings = {"heartbeat_ms": 100, **more}
        node = Node(NodeConfig(node_id, role, registries, 1935, self._folder, **settings))
        self._made.append(node)
        return node

    def close(self) -> None:
        for node in self._made:
            node.close()


@pytest.fixture
def nodes(context: Any, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


def test_it_registers_renews_answers_and_leaves(context: Any, registry: FakeRegistry, nodes: Nodes) -> None:
    node = nodes.make(registry.endpoint)
    node.load_provider = lambda: {"sessions": 3}
    node.health_provider = lambda: {"clients": 7}
    node.start("tcp://127.0.0.1:5", meta={"apps": ["live"]})
    eventually(lambda: registry.count(Renew) >= 3, within_s=10)
    register = registry.asked[0]
    assert (register.node_id, register.role, register.boot) == ("edge-1", "edge", node.boot)
    assert register.endpoint == "tcp://127.0.0.1:5"
    assert register.meta["apps"] == ["live"]
    renew = next(message for message in registry.asked if isinstance(message, Renew))
    assert renew.load["sessions"] == 3
    assert 0 <= renew.load["cpu_percent"] < 10_000
    health = ask(context, PLAIN, register.meta["control"], "", HealthRequest())
    assert isinstance(health, Health)
    assert health.state["clients"] == 7
    assert (health.state["node_id"], health.state["registered"]) == ("edge-1", True)
    node.request_registry(Release("chat/lobby", 4))
    assert registry.asked[-1] == Release("chat/lobby", 4) or registry.count(Release) == 1
    node.leave()
    assert registry.count(Leave) == 1
    assert (registry.count(Register), registry.count(Subscribe)) == (1, 1)


def test_it_registers_as_soon_as_the_registry_is_there(
    context: Any, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    class Noting(Requester):
        def __init__(self, context: Any, security: Security, endpoint: str, *args: Any, **more: Any) -> None:
            tried.append(endpoint)
            super().__init__(context, security, endpoint, *args, **more)

    monkeypatch.setattr("headwater_bus.node.Requester", Noting)
    first = FakeRegistry(context)
    endpoint = first.endpoint
    first.close()
    node = nodes.make("tcp://127.0.0.1:1", endpoint)
    node.start("")
    eventually(lambda: tried[:2] == ["tcp://127.0.0.1:1", endpoint], within_s=15)
    assert not node.registered.is_set()
    with pytest.raises(RequestError, match="registry is away"):
        node.request_registry(Release("chat", 1))
    second = eventually(lambda: _again(context, endpoint), within_s=5)
    eventually(node.registered.is_set, within_s=15)
    second.close()


def _again(context: Any, endpoint: str, security: Security = PLAIN) -> FakeRegistry | None:
    try:
        return FakeRegistry(context, endpoint, security)
    except BindError:
        return None


def test_it_goes_to_the_registry_that_leads_and_leaves_one_that_steps_down(
    context: Any, registry: FakeRegistry, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    other = FakeRegistry(context)
    registry.leading, other.leading = False, True
    node = nodes.make(registry.endpoint, other.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    assert (registry.asked, node.request_registry(Release("g", 1))) == ([], Done())
    # It steps down, and says so; before its next heartbeat the node is elsewhere.
    registry.leading, other.leading = True, False
    registry.groups = [["chat/a", "origin-1", 3]]
    other.server.push(other.subscribers, Refused("standby", "this registry does not lead"))
    eventually(lambda: "chat/a" in node.view.groups, within_s=10)
    eventually(node.registered.is_set, within_s=10)
    assert registry.count(Register) == 1
    # It is killed: the other one is found before anything was asked of the dead one.
    other.leading, other.groups = True, [["chat/b", "origin-1", 4]]
    registry.close()
    eventually(lambda: "chat/b" in node.view.groups and node.registered.is_set(), within_s=10)
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert set(texts) <= {"registry lost, looking for one"}
    other.close()


def test_each_registry_has_a_key_of_its_own(context: Any, nodes: Nodes, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    names = ["registry-1", "registry-b", "edge-1"]
    assert CliRunner().invoke(keys_main, ["make", str(keys), *names]).exit_code == 0
    zap = ZapHandler(context, keys)
    job = gevent.spawn(zap.run)
    first, second = (FakeRegistry(context, security=Security.from_keys(keys, name)) for name in names[:2])
    first.leading, second.leading = False, True
    node = nodes.make(first.endpoint, second.endpoint, keys=keys, registry_nodes=("registry-1", "registry-b"))
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    assert (first.count(Register), second.count(Register)) == (0, 1)
    strange = nodes.make(first.endpoint, second.endpoint, keys=keys)
    with pytest.raises(SecurityError, match="public key of registry-2"):
        strange.start("")
    first.close()
    second.close()
    zap.close()
    job.kill()


def test_a_registry_that_hangs_is_passed_over(context: Any, registry: FakeRegistry, nodes: Nodes) -> None:
    hung = context.socket(zmq.ROUTER)
    port = hung.bind_to_random_port("tcp://127.0.0.1")
    node = nodes.make(f"tcp://127.0.0.1:{port}", registry.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    assert registry.count(Register) == 1
    hung.close(linger=0)


def test_a_suspicion_is_told_once_at_a_time_and_to_the_registry_that_comes(
    context: Any, registry: FakeRegistry, nodes: Nodes
) -> None:
    node = nodes.make(registry.endpoint)
    node.suspect("origin-1", "b1")
    node.suspect("origin-1", "b1")
    node.start("")
    eventually(lambda: registry.count(Suspect), within_s=10)
    node.suspect("origin-1", "b2")
    eventually(lambda: registry.count(Suspect) == 2, within_s=10)
    assert [message for message in registry.asked if isinstance(message, Suspect)] == [
        Suspect("origin-1", "b1"), Suspect("origin-1", "b2")
    ]  # fmt: skip
    eventually(lambda: not node._suspecting, within_s=5)
    node.suspect("origin-1", "b1")
    eventually(lambda: registry.count(Suspect) == 3, within_s=10)


def test_a_suspicion_that_nobody_wants_to_hear_ends(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_bus.node._SUSPECT_S", 0.1)
    node = nodes.make("tcp://127.0.0.1:1")
    node.start("")
    for number in range(100):
        node.suspect("origin-1", f"b{number}")
    assert len(node._suspecting) == 100
    eventually(lambda: not node._suspecting, within_s=10)
    assert not node.stop_event.is_set()


def test_a_handler_can_be_added_at_the_control_endpoint(
    context: Any, registry: FakeRegistry, nodes: Nodes
) -> None:
    node = nodes.make(registry.endpoint, node_id="origin-1")
    node.on_request(GroupLoadsRequest, lambda caller, message: GroupLoads([["g", 1, 2, 3, 4]]))
    node.start("")
    control = eventually(lambda: registry.asked, within_s=10)[0].meta["control"]
    assert ask(context, PLAIN, control, "", GroupLoadsRequest()) == GroupLoads([["g", 1, 2, 3, 4]])
    assert isinstance(ask(context, PLAIN, control, "", HealthRequest()), Health)


def test_a_node_that_the_registry_forgot_registers_again(registry: FakeRegistry, nodes: Nodes) -> None:
    node = nodes.make(registry.endpoint)
    node.start("")
    eventually(lambda: registry.count(Renew) >= 1, within_s=10)
    registry.known.clear()
    eventually(lambda: registry.count(Register) == 2 and registry.count(Subscribe) == 2, within_s=10)
    assert node.registered.is_set()


def test_a_node_that_gets_no_table_begins_again(
    registry: FakeRegistry, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_bus.node._REFUSED_PAUSE_S", 0.05)
    registry.busy = 2
    node = nodes.make(registry.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    assert registry.count(Subscribe) == registry.count(Register) == 3
    # And so does one that had a table once.
    registry.busy = 1
    registry.tell(["group", "chat/a", "origin-1", 1], skip=1)
    registry.groups = [["chat/b", "origin-1", 2]]
    eventually(lambda: "chat/b" in node.view.groups, within_s=10)
    eventually(node.registered.is_set, within_s=10)


def test_a_key_that_is_missing_for_a_while_stops_nobody(
    context: Any, nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = tmp_path / "keys"
    assert CliRunner().invoke(keys_main, ["make", str(keys), "registry-1", "edge-1"]).exit_code == 0
    zap = ZapHandler(context, keys)
    job = gevent.spawn(zap.run)
    security = Security.from_keys(keys, "registry-1")
    first = FakeRegistry(context, security=security)
    node = nodes.make(first.endpoint, keys=keys)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    public = keys / "public" / "registry-1.key"
    whole = public.read_bytes()
    public.unlink()
    first.close()

    def told() -> bool:
        fields = [record.__dict__.get("fields", {}) for record in caplog.records]
        return any("public key of registry-1" in str(each.get("error")) for each in fields)

    eventually(told, within_s=15)
    assert not node.stop_event.is_set()
    public.write_bytes(whole)
    second = eventually(lambda: _again(context, first.endpoint, security), within_s=5)
    eventually(node.registered.is_set, within_s=15)
    second.close()
    zap.close()
    job.kill()


def test_the_view_follows_stays_and_catches_up(context: Any, registry: FakeRegistry, nodes: Nodes) -> None:
    registry.groups = [["chat/a", "origin-1", 1]]
    registry.nodes = [["origin-1", "origin", "b1", "tcp://127.0.0.1:5", 1.0, {}, {}]]
    node = nodes.make(registry.endpoint)
    heard: list[Any] = []
    node.view.on_change(heard.append)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    assert node.assign("chat/a").epoch == 1
    registry.tell(["group", "chat/b", "origin-1", 2])
    eventually(lambda: "chat/b" in node.view.groups, within_s=5)
    assert registry.count(Subscribe) == 1
    # A change is lost: the next one shows it, and the whole table is asked for.
    registry.groups = [["chat/b", "origin-2", 3], ["chat/c", "origin-1", 4]]
    registry.tell(["group", "chat/c", "origin-1", 4], skip=1)
    eventually(lambda: "chat/a" not in node.view.groups, within_s=5)
    assert node.view.groups["chat/b"].epoch == 3
    assert registry.count(Subscribe) == 2
    assert ["group-gone", "chat/a"] in heard
    registry.close()
    eventually(lambda: not node.registered.is_set(), within_s=15)
    assert set(node.view.groups) == {"chat/b", "chat/c"}
    assert set(node.view.nodes) == {"origin-1"}


def test_gaps_without_end_do_not_keep_it_from_renewing(registry: FakeRegistry, nodes: Nodes) -> None:
    node = nodes.make(registry.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)

    def storm() -> bool:
        registry.tell(["group-gone", "x"], skip=1)
        return registry.count(Renew) >= 3

    eventually(storm, within_s=10)
    assert registry.count(Subscribe) > 3


def test_bad_rows_and_a_listener_that_fails_harm_nobody(registry: FakeRegistry, nodes: Nodes) -> None:
    node = nodes.make(registry.endpoint)
    heard: list[Any] = []

    def fail(change: Any) -> None:
        raise RuntimeError("a bug")

    node.view.on_change(fail)
    node.view.on_change(heard.append)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    registry.tell(["group"], [], ["node", 5], ["what", 1], ["group", "chat/a", "origin-1", 1])
    eventually(lambda: "chat/a" in node.view.groups, within_s=5)
    assert heard == [["group", "chat/a", "origin-1", 1]]
    assert registry.count(Subscribe) == 1


def test_assign_asks_the_balancer_and_notices_another_one(
    context: Any, registry: FakeRegistry, nodes: Nodes
) -> None:
    answers: list[Any] = [Assigned("chat/a", "origin-1", 7), Refused("no-origin", "nobody is here")]

    def balancer() -> RequestServer:
        server = RequestServer(context, PLAIN, {AssignRequest: lambda caller, message: answers.pop(0)})
        for _, job in server.jobs():
            gevent.spawn(job)
        return server

    node = nodes.make(registry.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    with pytest.raises(AssignError, match="no balancer"):
        node.assign("chat/a")
    silent = RequestServer(context, PLAIN, {AssignRequest: lambda caller, message: None})
    dead = [gevent.spawn(job) for _, job in silent.jobs()]
    row = ["balancer-1", "balancer", "b1", silent.bind("tcp://127.0.0.1:*"), 1.0, {}, {}]
    registry.tell(["node", row])
    eventually(lambda: "balancer-1" in node.view.nodes, within_s=5)
    asking = gevent.spawn(node.assign, "chat/a", 30.0 * TIME_FACTOR)
    eventually(lambda: node._balancer is not None, within_s=5)
    live = balancer()
    row = ["balancer-1", "balancer", "b2", live.bind("tcp://127.0.0.1:*"), 1.0, {}, {}]
    registry.tell(["node", row])
    # The question that the first one swallowed is asked again, long before its time is over.
    assignment = asking.get(timeout=10 * TIME_FACTOR)
    assert (assignment.origin, assignment.epoch) == ("origin-1", 7)
    with pytest.raises(AssignError, match="nobody is here") as raised:
        node.assign("chat/b")
    assert not raised.value.final
    for server in (silent, live):
        server.close()
    gevent.killall(dead)


def test_assign_asks_the_balancer_that_leads_and_has_patience_with_one_that_does_not_know_it_yet(
    context: Any, registry: FakeRegistry, nodes: Nodes
) -> None:
    standby = Refused("standby", "balancer-1 leads")
    answers: dict[str, list[Any]] = {"balancer-1": [], "balancer-2": [standby, standby]}
    jobs: list[Any] = []
    servers: list[RequestServer] = []

    def balancer(name: str, since: int) -> list[Any]:
        def answer(caller: Caller, message: AssignRequest) -> Any:
            return answers[name].pop(0) if answers[name] else Assigned(message.group, name, 1)

        servers.append(RequestServer(context, PLAIN, {AssignRequest: answer}))
        jobs.extend(gevent.spawn(job) for _, job in servers[-1].jobs())
        endpoint = servers[-1].bind("tcp://127.0.0.1:*")
        return [name, "balancer", "b", endpoint, 1.0, {"since": since}, {}]

    registry.nodes = [balancer("balancer-2", 20), balancer("balancer-1", 10)]
    node = nodes.make(registry.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    assert node.assign("chat/a", 30.0 * TIME_FACTOR).origin == "balancer-1"
    registry.tell(["node-gone", "balancer-1"])
    eventually(lambda: "balancer-1" not in node.view.nodes, within_s=5)
    assert node.assign("chat/a", 30.0 * TIME_FACTOR).origin == "balancer-2"
    assert answers["balancer-2"] == []
    # One that comes later does not lead; the one that leads now is asked on.
    registry.tell(["node", balancer("balancer-0", 30)])
    eventually(lambda: "balancer-0" in node.view.nodes, within_s=5)
    assert node.assign("chat/b", 30.0 * TIME_FACTOR).origin == "balancer-2"
    answers["balancer-2"] = [standby] * 1000
    with pytest.raises(AssignError, match=r"balancer-1 leads|no answer"):
        node.assign("chat/c", 0.2)
    for server in servers:
        server.close()
    gevent.killall(jobs)


def test_a_connection_is_given_up_for_its_own_silences_only(
    context: Any, registry: FakeRegistry, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited on the connection that was given up asks on the next one; that is no silence of the next one."""
    monkeypatch.setattr("headwater_bus.node._ASK_AGAIN_S", 600.0)
    asked: Counter[str] = Counter()
    silent = RequestServer(
        context, PLAIN, {AssignRequest: lambda caller, message: asked.update([message.group])}
    )
    jobs = [gevent.spawn(job) for _, job in silent.jobs()]
    registry.nodes = [["balancer-1", "balancer", "b1", silent.bind("tcp://127.0.0.1:*"), 1.0, {}, {}]]
    node = nodes.make(registry.endpoint)
    node.start("")
    eventually(node.registered.is_set, within_s=10)
    groups = [f"chat/{n}" for n in range(7)]
    waiting = [gevent.spawn(node.assign, group, 600.0) for group in groups]
    eventually(lambda: all(asked[group] == 1 for group in groups), within_s=10)
    first = node._balancer
    for _ in range(3):
        assert node._balancer is first
        with pytest.raises(AssignError, match="no answer"):
            node.assign("chat/short", 0.2)
    eventually(lambda: all(asked[group] == 2 for group in groups), within_s=10)
    second = node._balancer
    assert second is not first
    for _ in range(2):
        with pytest.raises(AssignError, match="no answer"):
            node.assign("chat/short", 0.2)
        assert node._balancer is second
    gevent.killall(waiting)
    silent.close()
    gevent.killall(jobs)


def test_a_job_that_dies_stops_the_node_with_one_line(
    nodes: Nodes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = nodes.make("tcp://127.0.0.1:1")

    def die() -> None:
        raise ValueError("the reason")

    monkeypatch.setattr(gevent, "signal_handler", lambda *args: None)
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    node.spawn("worker", die)
    assert node.run() == 1
    lines = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in lines] == ["job died"]
    fields = lines[0].__dict__["fields"]
    assert (fields["job"], fields["error"]) == ("worker", "ValueError('the reason')")
    assert fields["where"].startswith("test_node.py:")


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_drain_that_fails_or_hangs_still_ends(
    registry: FakeRegistry, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(gevent, "signal_handler", lambda *args: None)
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    node = nodes.make(registry.endpoint, drain_s=0.2)
    node.start("")
    eventually(node.registered.is_set, within_s=10)

    def drain(deadline_s: float) -> None:
        assert deadline_s == 0.2
        if fault == "raises":
            raise ValueError("a bug")
        gevent.sleep(60)

    node.stop_event.set()
    with gevent.Timeout(20 * TIME_FACTOR):
        assert node.run(drain) == (1 if fault == "raises" else 0)
    assert registry.count(Leave) == 1


def test_nodes_of_one_process_leave_no_socket_behind(
    registry: FakeRegistry, nodes: Nodes, tmp_path: Path
) -> None:
    warm = nodes.make(registry.endpoint, node_id="edge-9")
    warm.start("")
    eventually(warm.registered.is_set, within_s=10)
    warm.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        made = [nodes.make(registry.endpoint, node_id=f"edge-{number}") for number in range(3)]
        for node in made:
            node.start("")
        for node in made:
            eventually(node.registered.is_set, within_s=10)
            node.close()
            node.close()  # Twice does no harm.
            assert node.context.closed
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 3, within_s=10)


def test_what_start_refuses_it_refuses_before_anything_runs(nodes: Nodes) -> None:
    with pytest.raises(SecurityError, match="unencrypted"):
        nodes.make("tcp://10.0.0.1:1").start("")
    node = nodes.make("tcp://127.0.0.1:1", advertise="edge.example")
    assert node.advertised("tcp://0.0.0.0:77") == "tcp://edge.example:77"
    assert node.advertised("tcp://[::]:77") == "tcp://edge.example:77"
    assert node.advertised("") == ""


SERVICE = """
import sys
from gevent import monkey; monkey.patch_all()
from pathlib import Path
import gevent
from headwater_bus import logs
from headwater_bus.node import Node, NodeConfig
logs.configure("edge", "edge-1")
node = Node(NodeConfig("edge-1", "edge", ("tcp://127.0.0.1:1",), 1935, Path("."), drain_s=float(sys.argv[1])))
node.start("")
def drain(deadline_s):
    print("draining", flush=True)
    gevent.sleep(float(sys.argv[2]))
gevent.spawn_later(0, print, "ready", flush=True)
raise SystemExit(node.run(drain))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("drain_s", ["0.1", "60"])
def test_signals_drain_and_a_second_one_changes_nothing(number: signal.Signals, drain_s: str) -> None:
    command = [sys.executable, "-c", SERVICE, "1.0", drain_s]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(line == "ready\n" for line in lines)
    process.send_signal(number)
    assert any(line == "draining\n" for line in lines)
    process.send_signal(number)
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=30 * TIME_FACTOR) == 0, rest
    assert "Traceback" not in rest
    assert "stopped" in rest.splitlines()[-1]
    assert ("not drained in time" in rest) is (drain_s == "60")


def test_zmq_contexts_are_its_own(nodes: Nodes) -> None:
    first, second = nodes.make("tcp://127.0.0.1:1"), nodes.make("tcp://127.0.0.1:1", node_id="edge-2")
    assert first.context is not second.context
    assert first.context is not zmq.Context.instance()
