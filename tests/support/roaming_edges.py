"""Edges of RTMPT sessions that go from one to the other: real edges, whose links, store and requests move on step by step."""

import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from headwater_bus import traffic
from headwater_bus.codec import Codec
from headwater_bus.view import Assignment
from headwater_edge.config import EdgeConfig
from headwater_edge.edge import Edge
from headwater_edge.turns import Turns
from headwater_store import Leases

from support.edge import FakeNode
from support.origin_bench import ME
from support.resuming_edges import GROUP, BatchLink
from support.tunnels import Request

if TYPE_CHECKING:
    from support.roaming_world import RoamingWorld

_CODEC = Codec(traffic.TRAFFIC)
FOREVER_S = 1e6
_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")


class Wire:
    """A link between an edge and the origin that there was when it was made, as an edge uses its end (see EdgeLink). `up`: what
    the origin has not got yet; `down`: batches that the edge has not got yet, each with the position behind it."""

    def __init__(self, world: "RoamingWorld", edge: "RoamingEdge", settings: dict[str, Any]) -> None:
        self._world, self._edge = world, edge
        self._origin: Any = world.bench.origin
        self._on_batch, self._on_down = settings["on_batch"], settings["on_down"]
        self.origin = self.peer = settings["origin"]
        self.boot = world.boot
        self.data: Any = None
        self.failure: str | None = None
        self.queued_bytes = self.position = self.acknowledged = 0
        self.state = SimpleNamespace(resent_batches=0, unknown=0)
        self.up: deque[Any] = deque()
        self.down: deque[tuple[list[Any], int]] = deque()
        self.far: Any = None
        """The origin's end; None: it has heard nothing yet."""
        self.gone = False
        """Whether the origin has lost it."""
        self._had = 0

    # The edge's end

    def start(self) -> None:
        """Its greeting comes with what it brings first."""

    def send(self, envelope: Any) -> None:
        if self.failure is None:
            (arrives,) = _CODEC.unpack(_CODEC.pack([envelope]))
            self.position += 1
            self.up.append(arrives)

    def give_up(self, reason: str) -> None:
        self.failure = reason

    def close(self, reason: str) -> None:
        self.failure = reason

    def lose(self) -> None:
        """The edge finds out that the link is lost."""
        if self.failure is None:
            self.failure = "cut"
            self._on_down(self, "cut")

    # What moves

    def rise(self, count: int) -> bool:
        """The origin gets what the edge has sent, but for what is behind the first `count`; returns whether there was some."""
        envelopes = [self.up.popleft() for _ in range(min(count, len(self.up)))]
        if not envelopes or self.gone or self._origin is not self._world.bench.origin:
            return bool(envelopes)
        if self.far is None:
            for other in self._world.wires:
                if other is not self and other._edge.name == self._edge.name:
                    other.sink()
            self.far = BatchLink(self._edge.name)
            self.far.boot = self._edge.boot
            self._origin.link_up(self.far)
        self._origin.batch(self.far, envelopes)
        return True

    def sink(self) -> None:
        """The origin finds out that the link is lost."""
        if self.far is not None and not self.gone and self._origin is self._world.bench.origin:
            self._origin.link_down(self.far, "cut")
        self.gone = self.gone or self.far is not None

    def cut(self) -> bool:
        """What the origin has said becomes a batch; returns whether there was something."""
        if self.far is None or self.gone:
            return False
        batch = self.far.take()
        if batch:
            self.down.append((batch, self.far.position))
        return bool(batch)

    def fall(self) -> bool:
        """The edge gets a batch; returns whether there was one."""
        if self.failure is not None or not (self.down or self.cut()):
            return False
        batch, self._had = self.down.popleft()
        self._on_batch(self, batch)
        return True

    def acknowledge(self) -> None:
        """Both ends hear what the other one has."""
        self.acknowledged = self.position - len(self.up)
        if self.far is not None:
            self.far.acknowledged = max(self._had, self.far.acknowledged)

    @property
    def over(self) -> bool:
        """Whether nothing moves on it any more."""
        return self.failure is not None and (self.gone or self.far is None)


def acting(
    method: Callable[Concatenate["RoamingEdge", _Given], _Got],
) -> Callable[Concatenate["RoamingEdge", _Given], _Got]:
    """What happens in it is done by this edge."""

    def act(self: "RoamingEdge", /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Got:
        self.world.acting = self
        got = method(self, *args, **kwargs)
        self.give_turns()
        return got

    act.__doc__ = method.__doc__
    return act


class RoamingEdge:
    """An edge process. While it `hangs` nothing of it runs."""

    def __init__(self, world: "RoamingWorld", name: str, boot: str, leases: Leases, **settings: Any) -> None:
        self.world, self.name, self.boot = world, name, boot
        world.acting = self
        node = self.node = FakeNode()
        node.node_id, node.boot = name, boot
        node.add_origin(ME, ("app",), world.boot)
        node.view.groups[GROUP] = Assignment(GROUP, ME, world.bench.epoch)
        node.assign = self._assign  # type: ignore[method-assign]  # this node is asked through the test
        config = EdgeConfig(
            tunnel_hold_s=FOREVER_S,
            tunnel_pause_s=0.0,
            tunnel_idle_s=FOREVER_S,
            tunnel_refresh_s=FOREVER_S,
            resume_s=FOREVER_S,
            attach_s=FOREVER_S,
            answer_s=FOREVER_S,
            **settings,
        )
        self.edge = Edge(node, config, leases)  # type: ignore[arg-type]  # all that it needs of a Node
        self.edge.loop = self
        self.edge.turns = Turns(self)
        self.hangs = False
        self.timers: deque[Callable[[], None]] = deque()
        """What attaching has put off."""
        self.alarms: list[Alarm] = []
        """Of requests that are held."""
        self.feed: deque[list[Any]] = deque()
        self.inbox: deque[Request] = deque()
        self._told: tuple[list[Any], list[Any]] | None = None
        """What the store has done: drops, and jobs with their outcomes."""

    def _assign(self, group: str, timeout_s: float = 2.0) -> Assignment:
        return Assignment(group, ME, self.world.bench.epoch)

    def timer(self, seconds: float) -> "Alarm":
        """As the loop of gevent does."""
        return Alarm(self, seconds)

    def give_turns(self) -> None:
        """Whatever is due at once."""
        while due := [alarm for alarm in self.alarms if not alarm.seconds]:
            self.alarms = [alarm for alarm in self.alarms if alarm.seconds]
            for alarm in due:
                alarm.callback()
            self.edge.flush_clients()

    @property
    def wire(self) -> Wire | None:
        """The link that it has now."""
        link: Any = self.edge.cluster.links.get(ME)
        return link if link is not None and link.failure is None else None

    @acting
    def serve(self) -> bool:
        """A request comes."""
        if self.inbox:
            self.edge.tunnels.request(self.inbox.popleft())  # type: ignore[arg-type]  # all that it needs of one
            self.edge.flush_clients()
            return True
        return False

    @acting
    def store(self) -> bool:
        """The store does what has gathered; the edge does not know yet."""
        records = self.edge.tunnels.records
        if self._told is not None or not (records._jobs or records._drops):
            return False
        jobs, drops = records._cut()
        outcomes = records._carry_out(jobs, drops)
        self._told = drops, list(zip(jobs, outcomes, strict=True))
        return True

    @acting
    def hear_store(self) -> bool:
        """The edge is told what the store has done."""
        told, self._told = self._told, None
        if told is None:
            return False
        drops, outcomes = told
        records = self.edge.tunnels.records
        records._tell(drops)
        for job, outcome in outcomes:
            records._finish(job, outcome)
        self.edge.flush_clients()
        return True

    @acting
    def time_is_up(self) -> bool:
        """What was put off is done."""
        timers, self.timers = self.timers, deque()
        for timer in timers:
            timer()
        self.edge.flush_clients()
        return bool(timers)

    @acting
    def ring(self) -> bool:
        """Requests that are held are answered."""
        alarms, self.alarms = self.alarms, []
        for alarm in alarms:
            alarm.callback()
        self.edge.flush_clients()
        return bool(alarms)

    @acting
    def learn(self) -> bool:
        """The change feed brings something."""
        if self.feed:
            self.node.changed(self.feed.popleft())
            return True
        return False

    @acting
    def fall(self) -> bool:
        """A batch of the origin comes."""
        return self.wire is not None and self.wire.fall()

    @acting
    def lose(self) -> None:
        """It finds out that its link is lost."""
        if self.wire is not None:
            self.wire.lose()

    @acting
    def doubt(self, key: str = "") -> None:
        """It has found out that it did not run for a while, or has not heard of a session."""
        for tunnel in list(self.edge.tunnels._tunnels.values()):
            if key in ("", tunnel.key):
                tunnel.doubt()

    @acting
    def much_later(self) -> None:
        """Sessions that nobody asks for end."""
        for tunnel in list(self.edge.tunnels._tunnels.values()):
            tunnel.check(tunnel.heard_at + 2 * FOREVER_S)
        self.edge.cluster.forget_forsaken(time.monotonic() + 2 * FOREVER_S)
        self.edge.flush_clients()


class Alarm:
    """A timer of an edge's loop."""

    def __init__(self, edge: RoamingEdge, seconds: float) -> None:
        self._edge, self.seconds = edge, seconds
        self.callback: Callable[[], None] = lambda: None

    def start(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self._edge.alarms.append(self)

    def stop(self) -> None:
        if self in self._edge.alarms:
            self._edge.alarms.remove(self)

    def close(self) -> None:
        pass
