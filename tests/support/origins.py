"""Several origins in one process, with one table and links among them that are queues: envelopes go through the bus's codec."""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
from headwater_bus import traffic
from headwater_bus.codec import Codec
from headwater_bus.control import Done
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment, ClusterView, NodeInfo
from headwater_origin import Application
from headwater_origin.config import OriginConfig
from headwater_origin.elsewhere.peers import PeerLink, Peers
from headwater_origin.origin import Origin
from headwater_store import Journals

from support.origin_bench import Bench

_CODEC = Codec(traffic.TRAFFIC)


class LinkEnd:
    """One end of a link between two origins; what is sent arrives in a greenlet, in order, and all that was sent by then as one
    batch, with its trailer."""

    def __init__(self, peer: str, deliver: Callable[[Any, list[Any]], None]) -> None:
        self.peer, self._deliver = peer, deliver
        self.boot = peer.replace("origin-", "b")
        self.data: Any = None
        self.failure: str | None = None
        self.queued_bytes = 0
        self.other: LinkEnd
        self.held = False
        """Whether what is sent here stays here for now."""
        self.sent: list[Any] = []
        self.position = self.acknowledged = 0
        self._queue: deque[Any] = deque()
        self._pumping = False
        self._trailer: Callable[[], Any] = lambda: None

    def send(self, envelope: Any) -> None:
        """Queue an envelope for the other end."""
        if self.failure is not None:
            return
        (arrives,) = _CODEC.unpack(_CODEC.pack([envelope]))
        self.position += 1
        self.sent.append(arrives)
        self._queue.append(arrives)
        self.pump()

    def end_batches_with(self, trailer: Callable[[], Any]) -> None:
        """What comes last in each batch."""
        self._trailer = trailer

    def mark(self) -> None:
        """There is something for the trailer."""
        self.pump()

    def pump(self) -> None:
        """Deliver what is queued, soon."""
        if not self._pumping and not self.held:
            self._pumping = True
            gevent.spawn(self._pump)

    def _pump(self) -> None:
        # One batch after the other, as who takes it may pause.
        try:
            while not self.held and self.failure is None:
                last = self._trailer()
                if last is not None:
                    self.send(last)
                batch = list(self._queue)
                self._queue.clear()
                if not batch:
                    break
                self.acknowledged += len(batch)
                self.other._deliver(self.other, batch)
        finally:
            self._pumping = False


class Site(Bench):
    """One of the origins; see Bench."""

    def __init__(self, view: ClusterView, origin: Origin) -> None:
        self.view, self.origin = view, origin
        self._owned = False
        self.epoch = 1
        self._numbers = self._edges = 0


class Origins:
    """See the module. A group that is asked for and has no origin goes to `where(group)`."""

    def __init__(
        self,
        applications: dict[str, type[Application]],
        count: int = 2,
        journals: Journals | None = None,
        **config: Any,
    ) -> None:
        self.view = ClusterView()
        self.where: Callable[[str], str] = lambda group: "origin-2" if "#" in group else "origin-1"
        self.links: list[tuple[LinkEnd, LinkEnd]] = []
        self.away: str | None = None
        """Why there is no answer about groups."""
        self.sites: dict[str, Site] = {}
        self._committing: dict[str, gevent.Greenlet[..., None]] = {}
        spread = [name for name, app in applications.items() if app.shared_objects == "spread"]
        for number in range(1, count + 1):
            name = f"origin-{number}"
            meta = {"apps": [*applications], "spread_objects": spread}
            info = NodeInfo(name, "origin", f"b{number}", "tcp://127.0.0.1:9", 1.0, meta)
            self.view._apply([["node", info.row()]])
            node: Any = SimpleNamespace(
                node_id=name,
                boot=f"b{number}",
                view=self.view,
                request_registry=lambda envelope: Done(),
                assign=self._assign,
            )
            origin = Origin(node, OriginConfig(**config), applications, journals)
            origin.host.peers = Peers(node, self._link)
            self.sites[name] = Site(self.view, origin)
            if journals is not None:
                self._committing[name] = gevent.spawn(origin.committer.run)

    def place(self, group: str, origin: str, epoch: int = 1) -> None:
        """Have an origin have a group."""
        self.view._apply([["group", group, origin, epoch]])

    def _assign(self, group: str, timeout_s: float) -> Assignment:
        gevent.sleep(0)
        if self.away is not None:
            raise AssignError(self.away)
        if group not in self.view.groups:
            self.place(group, self.where(group))
        return self.view.groups[group]

    def _link(self, peers: Peers, origin: str) -> Any:
        here: Any = LinkEnd(origin, peers.batch)
        here.data = PeerLink(peers.replicas)
        there: Any = LinkEnd(peers._node.node_id, self.sites[origin].origin.batch)
        here.other, there.other = there, here
        self.links.append((here, there))
        self.sites[origin].origin.link_up(there)
        here.peers, there.origin = peers, self.sites[origin].origin
        return here

    def cut(self) -> None:
        """End every link, on both ends."""
        links, self.links = self.links, []
        for here, there in links:
            here.failure = there.failure = "cut"
            ends: tuple[Any, Any] = here, there
            ends[0].peers.down(here, "cut")
            ends[1].origin.link_down(there, "cut")

    def crash(self, origin: str) -> None:
        """An origin dies; the others hear of it. What it has not committed is lost, and it says nothing any more."""
        self._committing[origin].kill()
        for group in list(self.sites[origin].origin.groups.values()):
            group.outputs.give_up()
            group.app.tasks.end()
            group.durable.jobs.end()
            gevent.killall(list(group._workers))
        gone = [(here, there) for here, there in self.links if here.peer == origin]
        self.links = [ends for ends in self.links if ends not in gone]
        for here, there in gone:
            here.failure = there.failure = "it has died"
            end: Any = here
            end.peers.down(end, "it has died")

    def group(self, name: str) -> Any:
        """A running group, wherever it is."""
        assignment = self.view.groups[name]
        return self.sites[assignment.origin].origin.groups[name]
