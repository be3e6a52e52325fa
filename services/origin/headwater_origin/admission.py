"""What edges say about which sessions have which group here: attaches are decided, or wait for the change feed; sessions end."""

import time
from typing import TYPE_CHECKING, Any

from headwater_bus import traffic
from headwater_rtmp.command import encode_command
from headwater_rtmp.status import StatusCode, status

from headwater_origin.application import Application
from headwater_origin.attaches import Attaches
from headwater_origin.connect import connect, join_guest
from headwater_origin.durable.members import Member
from headwater_origin.durable.roaming import Stored
from headwater_origin.durable.values import NO_VALUES
from headwater_origin.edge_port import EdgePort
from headwater_origin.session import Session

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.origin import Origin


class Admission:
    """See the module."""

    def __init__(self, origin: "Origin") -> None:
        self._origin, self._counters = origin, origin.counters
        self.attaches = Attaches(origin.config.attach_hold_bytes)

    # Attach

    def attach(self, port: EdgePort, envelope: traffic.Attach) -> None:
        """A session wants a group."""
        self._decide(port, envelope, time.monotonic() + self._origin.config.attach_hold_s)

    def gone(self, port: EdgePort, envelope: traffic.SessionsGone) -> None:
        """Sessions of a group have ended while their edge was looking for it. Where the group is not here (yet) it waits as an
        attach does; if it never comes, the absent members' time is up some day."""
        self._decide(port, envelope, time.monotonic() + self._origin.config.attach_hold_s)

    def _decide(
        self, port: EdgePort, envelope: traffic.Attach | traffic.SessionsGone, until: float, later: Any = ()
    ) -> None:
        if self._origin.stopping:
            # Not answered: the edge would be back before the registry has another origin. The link's end tells it.
            return
        owned = self._origin.owns(envelope.group, envelope.epoch)
        if owned:
            if isinstance(envelope, traffic.Attach):
                self._begin(port, envelope)
            else:
                self._forget(envelope)
            self._origin.take(port, later)
            return
        if isinstance(envelope, traffic.Attach):
            self._leave(port, envelope.session)
        if owned is False:
            self._refuse(port, envelope, "not the owner at this epoch")
        elif self.attaches.full:
            self._refuse(port, envelope, f"{len(self.attaches)} attaches wait for the registry already")
        else:
            waiting = self.attaches.add(port, envelope, until)
            for one in later:
                waiting.hold(one)

    def _leave(self, port: EdgePort, number: int) -> None:
        """The edge has a session attached anew that it has here already, and listens to nothing more of that. What it sends from
        here on is the new one's."""
        before = port.sessions.get(number)
        if before is not None:
            port.forget(before)
            if not before.closed:
                before.group.suspend(before, "its edge attaches it again")

    def decide_waiting(self, group: str) -> None:
        """Attaches that waited for a group go on."""
        for waiting in self.attaches.take(group):
            if waiting.until:
                self._decide(waiting.port, waiting.attach, waiting.until, waiting.later)
            else:
                self._refuse(waiting.port, waiting.attach, "too much waits for the registry already")

    def refuse_late(self, now: float) -> None:
        """Those that have waited too long."""
        for waiting in self.attaches.late(now):
            self._refuse(waiting.port, waiting.attach, "the registry has not told of this epoch")

    def _refuse(self, port: EdgePort, envelope: traffic.Attach | traffic.SessionsGone, reason: str) -> None:
        if isinstance(envelope, traffic.Attach):
            self._counters.attaches_refused += 1
            port.refuse(envelope.session, envelope.group, reason, envelope.epoch)

    def _begin(self, port: EdgePort, envelope: traffic.Attach) -> None:
        self._counters.attaches += 1
        self._counters.bytes_in += len(envelope.payload)
        name = envelope.group.partition("/")[0]
        application = self._origin.applications.get(name)
        if application is None:
            self._reject(
                port, envelope, StatusCode.CONNECT_INVALID_APP, f"there is no application {name[:64]!r} here"
            )
            return
        group = self._group(envelope, application)
        if group is None:
            self._reject(port, envelope, StatusCode.CONNECT_FAILED, "the application did not start")
            return
        known = group.fence_of(envelope.session_id)
        if envelope.fence < known:
            port.link.send(traffic.SessionTaken(envelope.session, known))
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
        session.epoch, session.proof = envelope.epoch, envelope.proof
        if envelope.fence:
            session.stored = Stored(envelope.fence)
        before = port.sessions.get(envelope.session)
        if before is not None and before.session_id != envelope.session_id:
            before.ended("its edge gives its number to another one")
        group.add(session)
        port.sessions[envelope.session] = session
        port.dropped.pop(envelope.session, None)
        if guest:
            join_guest(session, envelope)
            return
        session.member = Member(
            envelope.address,
            envelope.object_encoding,
            NO_VALUES,
            int(envelope.type_id),
            port.connects.shared(envelope.session, envelope.payload, envelope.payload),
        )
        connect(session, envelope)

    def _reject(self, port: EdgePort, envelope: traffic.Attach, code: StatusCode, reason: str) -> None:
        """Answer a connect that no group takes; if it does not run for others, it is given back."""
        self._counters.connects_rejected += 1
        # 1: the transaction id of every connect (RTMP 1.0, 7.2.1.1).
        message = encode_command("_error", 1, None, status(code, reason))
        port.link.send(traffic.ToClient(envelope.session, message.type_id, 0, 0, message.payload))
        port.link.send(traffic.CloseSession(envelope.session, f"connect refused: {reason}"))
        self._origin.note_unused(envelope.group, time.monotonic())

    def _group(self, envelope: traffic.Attach, application: type[Application]) -> "Group | None":
        """The group of an attach, started if need be; None when its application object cannot be made."""
        group = self._origin.groups.get(envelope.group)
        if group is not None and group.failure is not None and not group.sessions:
            del self._origin.groups[group.name]
            group.close("the application did not start")
            group = None
        return group or self._origin.open(envelope.group, envelope.epoch, application)

    def heard(self, port: EdgePort, envelope: traffic.Heard) -> None:
        """What some sessions were told is stored. What an Attach says the edge knows in memory: it may die with that."""
        rows = envelope.rows
        for at in range(0, len(rows) - 2, 3):
            row = rows[at : at + 3]
            session, waiting = port.sessions.get(row[0]), port.waiting.get(row[0])
            if waiting is not None:
                waiting.hold(traffic.Heard(row))
            elif session is not None and session.stored is not None:
                session.stored.heard(*row[1:])

    # Sessions that end

    def detach(self, port: EdgePort, envelope: traffic.Detach) -> None:
        """The client is gone."""
        if self.attaches.drop(port, envelope.session):
            return
        session = port.sessions.get(envelope.session)
        if session is None:
            return
        if session.group.held is not None:
            session.group.held.add(port, envelope)
            return
        del port.sessions[envelope.session]
        session.ended(envelope.reason, lost=True)

    def _forget(self, envelope: traffic.SessionsGone) -> None:
        group = self._origin.groups.get(envelope.group)
        if group is None:
            return

        def forget() -> None:
            group.started.wait()
            if group.failure is None and not group.stopped:
                group.sessions_gone(envelope.session_ids)

        group.run(forget)
