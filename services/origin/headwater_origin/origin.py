"""All groups of one origin process: attaches sessions to them and carries out what edges say."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from headwater_bus import traffic
from headwater_bus.link import Link
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status
from headwater_store import Journals

from headwater_origin import hooks
from headwater_origin.application import Application
from headwater_origin.config import OriginConfig
from headwater_origin.connect import connect, join_guest
from headwater_origin.counters import Counters
from headwater_origin.develop import app_hooks
from headwater_origin.durable.commits import Committer
from headwater_origin.durable.epochs import Epochs
from headwater_origin.edge_port import EdgePort
from headwater_origin.elsewhere.peers import Peers
from headwater_origin.group import Group
from headwater_origin.host import Host
from headwater_origin.inbound import Inbound, close_for
from headwater_origin.releases import Releases
from headwater_origin.session import Session

_log = get_log("origin")
_TICK_S = 0.25
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
        self._held: list[tuple[EdgePort, traffic.Attach, float]] = []
        self._ports: dict[EdgePort, None] = {}
        self._releases = Releases(node)
        self._epochs = Epochs(node)
        self._ending: dict[str, Group] = {}
        """Groups that have stopped and are being committed for the last time."""
        self._stopping = False
        self._handlers: dict[type, Callable[[EdgePort, Any], None]] = {
            traffic.Attach: self._attach,
            traffic.Detach: self._detach,
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
        """An edge is lost: its sessions are over."""
        port: EdgePort = link.data
        port.up = False
        self._ports.pop(port, None)
        _log.info("link down", edge=link.peer, reason=reason, sessions=len(port.sessions))
        self._held = [held for held in self._held if held[0] is not port]
        for session in list(port.sessions.values()):
            session.ended(f"edge {link.peer} is lost: {reason}")
        port.sessions.clear()
        port.publications.clear()
        port.object_groups.clear()

    def batch(self, link: Link, envelopes: list[Any]) -> None:
        """Carry out what an edge says, in order."""
        port: EdgePort = link.data
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

    # Sessions

    def _attach(self, port: EdgePort, envelope: traffic.Attach) -> None:
        self._decide(port, envelope, time.monotonic() + self.config.attach_hold_s)

    def _decide(self, port: EdgePort, envelope: traffic.Attach, until: float) -> None:
        if self._stopping:
            # Not answered: the edge would be back before the registry has another origin. The link's end tells it.
            return
        owned = self._owned(envelope)
        if owned:
            self._begin(port, envelope)
        elif owned is False:
            self._refuse(port, envelope, "not the owner at this epoch")
        elif len(self._held) < self.config.attach_hold_count:
            self._held.append((port, envelope, until))
        else:
            self._refuse(port, envelope, f"{len(self._held)} attaches wait for the registry already")

    def _owned(self, envelope: traffic.Attach) -> bool | None:
        """Whether this origin has the group at that epoch; None while the change feed has not come that far."""
        if envelope.group in self._ending:
            return None
        if self._releases.under_way(envelope.group, envelope.epoch):
            return False
        assignment = self.node.view.groups.get(envelope.group)
        if assignment is None or assignment.epoch < envelope.epoch:
            return None
        return assignment.origin == self.node.node_id and assignment.epoch == envelope.epoch

    def _refuse(self, port: EdgePort, envelope: traffic.Attach, reason: str) -> None:
        self.counters.attaches_refused += 1
        port.link.send(traffic.AttachRefused(envelope.session, envelope.group, reason))

    def _begin(self, port: EdgePort, envelope: traffic.Attach) -> None:
        self.counters.attaches += 1
        self.counters.bytes_in += len(envelope.payload)
        name = envelope.group.partition("/")[0]
        application = self.applications.get(name)
        if application is None:
            self._reject(
                port, envelope, StatusCode.CONNECT_INVALID_APP, f"there is no application {name[:64]!r} here"
            )
            return
        group = self._group(envelope, application)
        if group is None:
            self._reject(port, envelope, StatusCode.CONNECT_FAILED, "the application did not start")
            return
        guest = envelope.type_id == 0
        session = Session(
            port,
            envelope.session,
            envelope.session_id,
            group,
            envelope.address,
            envelope.object_encoding,
            guest,
            envelope.payload.decode(errors="replace") if guest else "",
        )
        before = port.sessions.get(envelope.session)
        if before is not None:
            before.ended("its edge attaches it again")
        port.sessions[envelope.session] = session
        group.add(session)
        if guest:
            join_guest(session, envelope.resumed)
            return
        message = Message(envelope.type_id, 0, 0, envelope.payload)
        try:
            command = decode_command(message)
        except RemoteProtocolError as error:
            self.counters.protocol_errors += 1
            close_for(session, str(error))
            return
        if isinstance(command.command_object, dict):
            session.properties = command.command_object
        connect(session, command, message, envelope.resumed)

    def _reject(self, port: EdgePort, envelope: traffic.Attach, code: StatusCode, reason: str) -> None:
        """Answer a connect that no group takes; if it does not run for others, it is given back."""
        self.counters.connects_rejected += 1
        # 1: the transaction id of every connect (RTMP 1.0, 7.2.1.1).
        message = encode_command("_error", 1, None, status(code, reason))
        port.link.send(traffic.ToClient(envelope.session, message.type_id, 0, 0, message.payload))
        port.link.send(traffic.CloseSession(envelope.session, f"connect refused: {reason}"))
        self._note_unused(envelope.group, time.monotonic())

    def _group(self, envelope: traffic.Attach, application: type[Application]) -> Group | None:
        """The group of an attach, started if need be; None when its application object cannot be made."""
        group = self.groups.get(envelope.group)
        if group is not None and group.failure is not None and not group.sessions:
            del self.groups[group.name]
            group.close("the application did not start")
            group = None
        if group is None:
            try:
                group = Group(envelope.group, envelope.epoch, application, self.host)
            except Exception as error:
                self.counters.handler_errors += 1
                _log.error("application failed", group=envelope.group, what="__init__", error=repr(error))
                return None
            self.groups[group.name] = group
            self._releases.settled(group.name)
            _log.info("group started", group=group.name, epoch=group.epoch)
            group.start()
        return group

    def _detach(self, port: EdgePort, envelope: traffic.Detach) -> None:
        self._held = [
            held for held in self._held if held[0] is not port or held[1].session != envelope.session
        ]
        session = port.sessions.pop(envelope.session, None)
        if session is not None:
            session.ended(envelope.reason)

    # Groups

    def _table_changed(self, change: list[Any]) -> None:
        """The registry's table says something new: attaches that waited for it go on, groups of others end here."""
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
            if group is not None:
                self._drop_group(group, f"the application instance is at {owner} now")
        elif group is not None and epoch < group.epoch:
            # The registry's table went back in time. It grants the group anew, above; the journal stays open as it is.
            self._epochs.seen(name, group.epoch)
        elif group is not None:
            group.renewed(epoch)
        else:
            linger_s = max(self.config.group_linger_s, _FIRST_ATTACH_S)
            self._releases.unused(name, epoch, time.monotonic() + linger_s)
        self._decide_held(name)

    def _decide_held(self, name: str) -> None:
        """Attaches that waited for a group go on."""
        waiting = [held for held in self._held if held[1].group == name]
        if waiting:
            self._held = [held for held in self._held if held[1].group != name]
            for port, envelope, until in waiting:
                self._decide(port, envelope, until)

    def _drop_group(self, group: Group, reason: str) -> None:
        """Stop a group; it is given back when that is over."""
        del self.groups[group.name]
        _log.info("group stopped", group=group.name, reason=reason)
        group.close(reason)
        ending = group.ending
        if ending is None:
            self._note_unused(group.name, 0.0)
        else:
            self._ending[group.name] = group
            ending.link(lambda _: self._ended(group))

    def _ended(self, group: Group) -> None:
        if self._ending.get(group.name) is not group:
            return
        del self._ending[group.name]
        self._note_unused(group.name, 0.0)
        if not self._stopping:
            self._decide_held(group.name)
            self._releases.tend(time.monotonic())

    def _fenced(self, group: Group, epoch: int) -> None:
        """Another origin has a group that this one took for its own: the registry must not have forgotten that."""
        if self.groups.get(group.name) is group:
            del self.groups[group.name]
        group.close(f"the application instance is elsewhere since epoch {epoch}")
        self._epochs.seen(group.name, epoch)

    def tick(self) -> None:
        """Job: attaches that waited too long, objects and groups that nobody uses, for ever."""
        while True:
            gevent.sleep(_TICK_S)
            self.tend(time.monotonic())

    def tend(self, now: float) -> None:
        """One round of `tick`; `now` in monotonic seconds."""
        late = [held for held in self._held if held[2] <= now]
        if late:
            self._held = [held for held in self._held if held[2] > now]
            for port, envelope, _ in late:
                self._refuse(port, envelope, "the registry has not told of this epoch")
        self.committer.tend(now)
        for group in list(self.groups.values()):
            group.tick(now)
            if group.lingered(now):
                self._drop_group(group, "nobody uses it")
        if not self._stopping:
            self._releases.tend(now)

    def _note_unused(self, name: str, due: float) -> None:
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
                group.replace_application(application)
            except hooks.FAILURES as error:
                hooks.failed(group, "reload", error)
                _log.error("scope keeps the old code", group=group.name)

    def shutdown(self, reason: str, within_s: float = 0.0) -> None:
        """Close every group; their clients are told. Waits for `on_stop` of the applications, and until everything is committed,
        but not longer than so."""
        self._stopping = True
        self._held.clear()
        groups = [*self.groups.values(), *self._ending.values()]
        self.groups.clear()
        for group in groups:
            group.close(reason, StatusCode.CONNECT_APP_SHUTDOWN)
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
