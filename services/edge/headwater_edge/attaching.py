"""Which origin a group's sessions go to: as the table says, else as the balancer says; refused ones ask again.

New sessions have `attach_s` for it, those that an origin had have `resume_s` (see `deadlines`). When an origin is lost, the
change feed tells the next one soon, so the balancer is asked only when it has not told for a moment.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import gevent
from headwater_bus import traffic
from headwater_bus.link import EdgeLink
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment
from headwater_rtmp.status import StatusCode

from headwater_edge.attachment import Attachment, AttachmentPhase
from headwater_edge.groups import FIRST_PAUSE_S, LONGEST_PAUSE_S, EdgeGroup
from headwater_edge.resuming import Resuming
from headwater_edge.standing import attach_envelope

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_PATIENCE_S = 0.3
"""For the change feed, after the loss of an origin."""
_ASK_S = 2.0
"""How long one question may take that only sessions wait for which an origin had."""


class Attaching:
    """Brings sessions to the origins of their groups. `link_to(origin)` gives the link to one, None where it is not
    registered."""

    def __init__(self, edge: "Edge", resuming: Resuming, link_to: Callable[[str], EdgeLink | None]) -> None:
        self._edge = edge
        self._node = edge.node
        self._resuming = resuming
        self._link_to = link_to
        self._log_limit = RateLimit(10.0)

    # Who looks for an origin

    def attach(self, group: EdgeGroup, attachment: Attachment) -> None:
        """A session wants to be in a group."""
        group.add(attachment)
        # What a guest wants, its home knows of: where no origin has it now, one may have it soon.
        known = group.link is not None or attachment.accepted or not attachment.is_home
        if not known and not self._served(group.name):
            name = group.name.partition("/")[0]
            attachment.fail(StatusCode.CONNECT_INVALID_APP, f"there is no application {name[:64]!r} here")
        elif not (group.patient or group.retrying):
            self.find(group)

    def _served(self, group: str) -> bool:
        """Whether some origin has the application of a group; while there is no origin at all nobody can say."""
        name = group.partition("/")[0]
        origins = [node for node in self._node.view.nodes.values() if node.role == "origin"]
        return not origins or any(name in node.apps for node in origins)

    def lost(self, groups: Sequence[EdgeGroup], origin: str) -> None:
        """These groups have left the link to an origin that is lost: go where the table has them by now, or give the feed a
        moment to tell."""
        patient = [group for group in groups if not self._elsewhere(group, origin)]
        for group in patient:
            group.patient = True
        if patient:
            gevent.spawn_later(_PATIENCE_S, self._no_longer_patient, patient)

    def _elsewhere(self, group: EdgeGroup, origin: str) -> bool:
        """Whether the table has another origin for a group than the lost one, or it needs none: it is looked after then."""
        assignment = self._usable(group)
        if assignment is not None and assignment.origin != origin and group.used:
            self.go(group, assignment)
            return True
        return not group.finding

    def _no_longer_patient(self, groups: list[EdgeGroup]) -> None:
        for group in groups:
            if group.patient:
                group.patient = False
                if group.finding:
                    self.find(group)
        self._edge.flush_clients()

    def refused(self, group: EdgeGroup, attachment: Attachment, reason: str) -> None:
        """An origin does not take an attachment: the mirror is a little older or newer than the origin's."""
        self._resuming.lost(group, attachment)
        self._later(group, reason)

    def _later(self, group: EdgeGroup, reason: str) -> None:
        """Look again in a moment, later each time; who has waited for too long is told."""
        if not group.retrying:
            group.retrying = True
            gevent.spawn_later(group.pause_s, self._again, group)
            group.pause_s = min(2 * group.pause_s, LONGEST_PAUSE_S)
        for attachment in self._overdue(group):
            session = attachment.client.session
            _log.warning("session has no origin", group=group.name, session=session, reason=reason)
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group.name}: its origin cannot be reached")

    def _again(self, group: EdgeGroup) -> None:
        group.retrying = False
        if group.finding and not group.patient:
            self.find(group)
        self._edge.flush_clients()

    # Where it is

    def find(self, group: EdgeGroup) -> None:
        """Bring all of a group that look for its origin there. Whatever fails costs new ones; others try again."""
        try:
            assignment = self._usable(group)
            if assignment is not None:
                self._enter(group, assignment)
            elif not group.asking:
                group.asking = True
                gevent.spawn(self._ask_balancer, group)
        except Exception as error:
            self._failed(group, error)

    def go(self, group: EdgeGroup, assignment: Assignment) -> None:
        """The group is here from now on: all that look for its origin are brought there. As `find`."""
        try:
            self._enter(group, assignment)
        except Exception as error:
            self._failed(group, error)

    def _usable(self, group: EdgeGroup) -> Assignment | None:
        """What the table says, where that origin is registered."""
        assignment = self._node.view.groups.get(group.name)
        return assignment if assignment is not None and assignment.origin in self._node.view.nodes else None

    def _failed(self, group: EdgeGroup, error: Exception) -> None:
        self._edge.counters.internal_errors += 1
        _log.error("internal error", group=group.name, error=repr(error))
        for attachment in [a for a in group.finding.values() if not a.accepted]:
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group.name}: internal error")
        if group.finding:
            self._later(group, "internal error")

    def _enter(self, group: EdgeGroup, assignment: Assignment) -> None:
        link = group.link
        if link is not None and (link.failure is not None or link.origin != assignment.origin):
            self._resuming.leave(group, time.monotonic())
            link = None
        if link is None:
            link = self._link_to(assignment.origin)
            if link is None:
                self._later(group, f"{assignment.origin} is not registered")
                return
            group.enter(link)
        group.patient = False
        group.epoch, group.feed = assignment.epoch, self._node.view.feed
        if group.gone:
            link.send(traffic.SessionsGone(group.name, group.epoch, group.gone[:]))
            if not group.attachments:
                group.gone.clear()
        finding, group.finding = group.finding, {}
        for attachment in finding.values():
            if attachment.phase == AttachmentPhase.FINDING:
                self._ask_origin(group, link, attachment)

    def _ask_origin(self, group: EdgeGroup, link: EdgeLink, attachment: Attachment) -> None:
        """Should it fail, this client is told, and those behind it have their turn."""
        try:
            link.data.attachments[attachment.number] = attachment
            link.send(attach_envelope(group, attachment))
            if attachment.accepted:
                link.data.asked[attachment.number] = group
                group.asked[attachment.number] = time.monotonic()
            if attachment.client.fence:
                attachment.tell_heard(link)
            self._edge.counters.messages_again += attachment.asked(link, group.epoch)
        except Exception as error:
            self._edge.counters.internal_errors += 1
            session = attachment.client.session
            _log.error("internal error", group=group.name, session=session, error=repr(error))
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group.name}: internal error")

    # The balancer

    def _ask_balancer(self, group: EdgeGroup) -> None:
        """Greenlet: one question at a time to the balancer for all who wait for a group. Each is answered at its own deadline
        at the latest."""
        failure, pause_s = "no origin", FIRST_PAUSE_S
        try:
            while (left_s := self._time_left(group, failure)) > 0:
                try:
                    self._take(group, self._node.assign(group.name, timeout_s=left_s))
                    break
                except AssignError as error:
                    failure = str(error)
                    if error.final:
                        self._fail_all(group, failure)
                        break
                    gevent.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        except Exception as error:
            self._failed(group, error)
        finally:
            group.asking = False
        self._edge.flush_clients()

    def _take(self, group: EdgeGroup, assignment: Assignment) -> None:
        """What the balancer says; the table may say something newer by now, and the feed may have brought them there already."""
        known = self._usable(group)
        if group.finding:
            newer = known is not None and known.epoch > assignment.epoch
            self._enter(group, known if newer and known is not None else assignment)

    def _fail_all(self, group: EdgeGroup, failure: str) -> None:
        for attachment in list(group.finding.values()):
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group.name}: {failure}")

    def _overdue(self, group: EdgeGroup) -> list[Attachment]:
        """The new ones that have waited for too long."""
        earliest = time.monotonic() - self._edge.config.attach_s
        return [a for a in group.finding.values() if not a.accepted and a.since <= earliest]

    def _time_left(self, group: EdgeGroup, failure: str) -> float:
        """Seconds until the first who waits for a group has waited for too long; 0 when nobody waits. Those that have are
        told."""
        for attachment in self._overdue(group):
            if self._log_limit.passes("no origin"):
                _log.warning(
                    "group has no origin",
                    group=group.name,
                    session=attachment.client.session,
                    error=failure,
                    suppressed=self._log_limit.suppressed("no origin"),
                )
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group.name}: {failure}")
        self._edge.flush_clients()
        if not group.finding:
            return 0.0
        earliest = time.monotonic() - self._edge.config.attach_s
        new = [
            attachment.since - earliest for attachment in group.finding.values() if not attachment.accepted
        ]
        return max(0.001, min(new, default=_ASK_S))
