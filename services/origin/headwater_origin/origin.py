"""All groups of one origin process: attaches sessions to them and carries out what edges say."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gevent
from headwater_bus import traffic
from headwater_bus.link import Link
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.rhythm import until_next
from headwater_bus.sockets import SLICE_S, pause
from headwater_store import Journals

from headwater_origin import hooks
from headwater_origin.admission import Admission
from headwater_origin.application import Application
from headwater_origin.config import OriginConfig
from headwater_origin.counters import Counters
from headwater_origin.develop import app_hooks
from headwater_origin.durable.commits import Committer
from headwater_origin.durable.epochs import Epochs
from headwater_origin.edge_port import EdgePort
from headwater_origin.elsewhere.peers import Peers
from headwater_origin.group import Group
from headwater_origin.host import Host
from headwater_origin.inbound import Inbound
from headwater_origin.moves import Moves
from headwater_origin.releases import Releases
from headwater_origin.sizes import payload_bytes

_log = get_log("origin")
_TICK_S = 0.5
_UNPAUSED = 8
"""So many things that an edge says are carried out before it is asked how long that took."""
_MOST_BEHIND, _MOST_BEHIND_BYTES = 4096, 16 * 1024 * 1024
"""So many things that one edge has said, or so many bytes of payload, may not have been carried out yet; then nobody is listened
to until they are."""
_LATE_S = 0.5
"""A tick that comes so late means that this process was held up: nothing could happen meanwhile."""
_FIRST_ATTACH_S = 1.0
"""A group that was just granted has at least so long until its first client attaches."""


class Origin:
    """See the module. `applications`: the class for each application name of connect URLs."""

    def __init__(
        self,
        node: Node,
        config: OriginConfig,
        applications: Mapping[str, type[Application]],
        journals: Journals | None = None,
    ) -> None:
        self.node, self.config, self.applications = node, config, dict(applications)
        self.counters = Counters()
        self.committer = Committer(journals, config, self.counters)
        self.host = Host(
            node, config, self.counters, self.committer, peers=Peers(node), on_fenced=self._fenced
        )
        self.groups: dict[str, Group] = {}
        self.stopping = False
        self.moves = Moves(self)
        self._admission = Admission(self)
        self._ports: dict[EdgePort, None] = {}
        self._releases = Releases(node)
        self._epochs = Epochs(node)
        self._ending: dict[str, Group] = {}
        """Groups that have stopped and are being committed for the last time."""
        self._started = 0
        """Groups that have begun since the last tick, for one line of the log."""
        self._handlers: dict[type, Callable[[EdgePort, Any], None]] = {
            traffic.Attach: self._admission.attach,
            traffic.Detach: self._admission.detach,
            traffic.SessionsGone: self._admission.gone,
            traffic.Heard: self._admission.heard,
            **Inbound(config, self.counters).handlers,
        }
        node.view.on_change(self._table_changed)

    # Links

    def link_up(self, link: Link) -> None:
        """An edge has opened its link."""
        link.data = port = EdgePort(link)
        self._ports[port] = None
        _log.info("link up", edge=link.peer)

    def link_down(self, link: Link, reason: str) -> None:
        """An edge is lost, or its link is: its sessions may come back over another one, for a while."""
        port: EdgePort = link.data
        port.up = False
        port.media.close()
        self._ports.pop(port, None)
        _log.info("link down", edge=link.peer, reason=reason, sessions=len(port.sessions))
        self._admission.attaches.drop(port)
        groups: dict[Group, None] = {}
        for session in list(port.sessions.values()):
            groups[session.group] = None
            if session.closed:
                continue
            session.group.suspend(session, f"edge {link.peer} is lost: {reason}")
        for group in groups:
            group.outputs.forget_edge(port)
        port.sessions.clear()
        port.publications.clear()
        port.objects.clear()
        # Over another link its edge sends again what was not done.
        port.behind.clear()
        port.behind_bytes = 0

    def batch(self, link: Link, envelopes: list[Any]) -> None:
        """Carry out what an edge says, in order. Called by the greenlet that reads all links; where there is much to do, one of
        this link alone does the rest, a little at a time. So what was done leaves and is committed meanwhile, and the members
        of a group are served together, whichever edges they are on."""
        port: EdgePort = link.data
        if port.worker is not None:
            if _falls_behind(port, envelopes):
                port.worker.join()
            return
        began_at = time.monotonic()
        for at in range(0, len(envelopes), _UNPAUSED):
            if at and time.monotonic() - began_at > SLICE_S:
                _falls_behind(port, envelopes[at:])
                port.worker = gevent.spawn(self._catch_up, port)
                return
            self.take(port, envelopes[at : at + _UNPAUSED])

    def _catch_up(self, port: EdgePort) -> None:
        """Greenlet: carry out what a link has brought."""
        behind = port.behind
        paused_at = time.monotonic()
        while behind:
            self.take(port, [behind.popleft() for _ in range(min(_UNPAUSED, len(behind)))])
            if behind and time.monotonic() - paused_at > SLICE_S:
                pause()
                paused_at = time.monotonic()
        port.worker, port.behind_bytes = None, 0

    def take(self, port: EdgePort, envelopes: Iterable[Any]) -> None:
        """`batch` without a pause."""
        handlers = self._handlers
        for envelope in envelopes:
            handler = handlers.get(type(envelope))
            if handler is None:
                self.counters.stray_messages += 1
                continue
            try:
                handler(port, envelope)
            except Exception as error:
                self._failed(port, envelope, error)

    def _failed(self, port: EdgePort, envelope: Any, error: Exception) -> None:
        """A fault of this program: the session that met it ends, everybody else goes on."""
        self.counters.internal_errors += 1
        _log.error("envelope failed", kind=type(envelope).__name__, edge=port.link.peer, error=repr(error))
        session = port.sessions.get(getattr(envelope, "session", 0))
        if session is not None:
            session.drop("internal error")

    # Groups

    def owns(self, name: str, epoch: int) -> bool | None:
        """Whether this origin has a group at that epoch; None while that is not known: the change feed has not come that far, or
        the group is being moved or committed for the last time."""
        group = self.groups.get(name)
        if name in self._ending or (group is not None and group.held is not None):
            return None
        if self._releases.under_way(name, epoch):
            return False
        assignment = self.node.view.groups.get(name)
        if assignment is None or assignment.epoch < epoch:
            return None
        return assignment.origin == self.node.node_id and assignment.epoch == epoch

    def open(self, name: str, epoch: int, application: type[Application]) -> Group | None:
        """Begin a group, or go on with it; None when its application object cannot be made."""
        group = self.groups.get(name)
        if group is not None:
            return group
        try:
            group = Group(name, epoch, application, self.host)
        except Exception as error:
            self.counters.handler_errors += 1
            _log.error("application failed", group=name, what="__init__", error=repr(error))
            return None
        self.groups[name] = group
        self._releases.settled(name)
        self._started += 1
        _log.debug("group started", group=name, epoch=epoch)
        group.start()
        return group

    def _table_changed(self, change: list[Any]) -> None:
        """The registry's table says something new: groups that this origin gets begin, those of others end here."""
        if change[0] == "group-gone":
            # A group that still has sessions goes on until another origin has it.
            self._releases.settled(change[1])
            return
        if change[0] != "group":
            return
        name, owner, epoch = change[1:4]
        group = self.groups.get(name)
        if owner != self.node.node_id:
            self._releases.settled(name)
            if group is not None and owner and name not in self.moves:
                self._taken_over(group, owner)
        elif group is not None and epoch < group.epoch:
            # The registry's table went back in time. It grants the group anew, above; the journal stays open as it is.
            self._epochs.seen(name, group.epoch)
        elif group is not None:
            group.renewed(epoch)
        elif name not in self._ending:
            self._granted(name, epoch)
        self._admission.decide_waiting(name)

    def _granted(self, name: str, epoch: int) -> None:
        """A group is this origin's: it begins before anybody attaches, so that who comes from another origin need not wait."""
        application = self.applications.get(name.partition("/")[0])
        if self.stopping or self._releases.under_way(name, epoch):
            return
        if application is None or self.open(name, epoch, application) is None:
            linger_s = max(self.config.group_linger_s, _FIRST_ATTACH_S)
            self._releases.unused(name, epoch, time.monotonic() + linger_s)

    def _taken_over(self, group: Group, owner: str) -> None:
        """Another origin has it: what is not committed is in vain, and its sessions go on there."""
        _log.info("group taken over", group=group.name, by=owner, sessions=len(group.sessions))
        self.forget(group)
        group.outputs.give_up()
        self.committer.forget(group)
        group.close(f"the application instance is at {owner} now")

    def forget(self, group: Group) -> None:
        """The group is not this origin's any more."""
        if self.groups.get(group.name) is group:
            del self.groups[group.name]

    def moved(self, group: Group) -> None:
        """A group was moved, or could not be: attaches that waited for that go on."""
        self._admission.decide_waiting(group.name)

    def _drop_group(self, group: Group, reason: str) -> None:
        """Stop a group; it is given back when that is over."""
        del self.groups[group.name]
        _log.info("group stopped", group=group.name, reason=reason)
        group.close(reason)
        ending = group.ending
        if ending is None:
            self.note_unused(group.name, 0.0)
        else:
            self._ending[group.name] = group
            ending.link(lambda _: self._ended(group))

    def _ended(self, group: Group) -> None:
        name = group.name
        if self._ending.get(name) is not group:
            return
        del self._ending[name]
        assignment = self.node.view.groups.get(name)
        if assignment is not None and assignment.epoch > group.epoch:
            self._table_changed(["group", name, assignment.origin, assignment.epoch])
        else:
            self.note_unused(name, 0.0)
        if not self.stopping:
            self._admission.decide_waiting(name)
            self._releases.tend(time.monotonic())

    def _fenced(self, group: Group, epoch: int) -> None:
        """Another origin has a group that this one took for its own: the registry must not have forgotten that."""
        self.forget(group)
        group.close(f"the application instance is elsewhere since epoch {epoch}")
        self._epochs.seen(group.name, epoch)

    def tick(self) -> None:
        """Job: attaches that waited too long, objects and groups that nobody uses, for ever."""
        while True:
            left_s = until_next(_TICK_S)
            due = time.monotonic() + left_s
            gevent.sleep(left_s)
            now = time.monotonic()
            if now - due > _LATE_S:
                self.held_up(now - due)
            self.tend(now)

    def held_up(self, late_s: float) -> None:
        """This process did not run for so long, so neither the store nor edges could be heard: their time goes on from here."""
        self.committer.held_up(late_s)
        for group in self.groups.values():
            group.absent.postpone(late_s)

    def tend(self, now: float) -> None:
        """One round of `tick`; `now` in monotonic seconds."""
        if self._started:
            _log.info(
                "groups started", groups=self._started, all=len(self.groups), taken=self.counters.groups_taken
            )
            self._started = 0
        self._admission.refuse_late(now)
        self.committer.tend(now)
        for group in list(self.groups.values()):
            group.tick(now)
            if group.lingered(now):
                self._drop_group(group, "nobody uses it")
        if not self.stopping:
            self._releases.tend(now)

    def note_unused(self, name: str, due: float) -> None:
        """Have a group released that is this origin's and does not run here."""
        assignment = self.node.view.groups.get(name)
        if name not in self.groups and assignment is not None and assignment.origin == self.node.node_id:
            self._releases.unused(name, assignment.epoch, due)

    def start_applications(self) -> None:
        """Before anything else: `on_app_start` of each. Raises LoadError."""
        app_hooks.start(self.applications.values())

    def stop_applications(self) -> None:
        """After everything else: `on_app_stop` of each."""
        app_hooks.stop(self.applications.values(), self.counters)

    def replace_application(self, name: str, application: type[Application]) -> None:
        """Go on with another class of an application, in every scope of it; a scope where it does not start keeps the old one."""
        old, self.applications[name] = self.applications[name], application
        app_hooks.exchange(old, application, self.counters)
        for group in list(self.groups.values()):
            if group.name.partition("/")[0] != name:
                continue
            if group.application is None:
                group.policy = application
                continue
            try:
                group.app.replace(application)
            except hooks.FAILURES as error:
                hooks.failed(group, "reload", error)
                _log.error("scope keeps the old code", group=group.name)

    def shutdown(self, reason: str, within_s: float = 0.0) -> None:
        """Close every group: its sessions go on at other origins, and are told nothing. Waits for `on_stop` of the
        applications, and until everything is committed, but not longer than so."""
        self.stopping = True
        self._admission.attaches.clear()
        groups = [*self.groups.values(), *self._ending.values()]
        self.groups.clear()
        for group in groups:
            group.close(reason, within_s / 2)
        gevent.joinall([group.ending for group in groups if group.ending is not None], timeout=within_s)

    # For operators

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return sum(len(group.sessions) for group in self.groups.values())

    def load(self) -> dict[str, Any]:
        """What the node reports to the registry."""
        return {"groups": len(self.groups), "sessions": self.sessions}

    def health(self) -> dict[str, Any]:
        """What the health answer says of the origin."""
        return {
            "applications": sorted(self.applications),
            "sessions": self.sessions,
            "groups": {name: group.health() for name, group in self.groups.items()},
            "unused": len(self._releases),
            "absent": sum(len(group.absent) for group in self.groups.values()),
            "said": sum(len(group.outputs.said) for group in self.groups.values()),
            "moving": len(self.moves),
            "attaches_waiting": len(self._admission.attaches),
            "peers": {} if self.host.peers is None else self.host.peers.health(),
            "links": [
                {
                    "edge": port.link.peer,
                    "sessions": len(port.sessions),
                    "queued_bytes": port.link.queued_bytes,
                }
                for port in self._ports
            ],
            "counters": self.counters.as_dict(),
        }


def _falls_behind(port: EdgePort, envelopes: list[Any]) -> bool:
    """Keep what an edge has said for later; returns whether that is too much."""
    port.behind.extend(envelopes)
    port.behind_bytes += sum(map(payload_bytes, envelopes))
    if port.behind_bytes > _MOST_BEHIND_BYTES:
        port.behind_bytes = sum(map(payload_bytes, port.behind))
    return len(port.behind) > _MOST_BEHIND or port.behind_bytes > _MOST_BEHIND_BYTES
