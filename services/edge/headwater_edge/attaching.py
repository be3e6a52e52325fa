"""Which origin an attachment goes to: the mirror, else the balancer; refused ones ask again until `attach_s` is over."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus import traffic
from headwater_bus.link import Link
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.node import AssignError
from headwater_bus.view import Assignment
from headwater_rtmp.status import StatusCode

from headwater_edge.attachment import Attachment, AttachmentPhase

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_log = get_log("edge")
_RETRY_S, _LONGEST_RETRY_S = 0.05, 0.4


class Attaching:
    """Brings sessions to the origins of their groups. `link_to(origin)` gives the link to one, None where it is not
    registered."""

    def __init__(self, edge: "Edge", link_to: Callable[[str], Link | None]) -> None:
        self._edge = edge
        self._node = edge.node
        self._link_to = link_to
        self._resolving: dict[str, list[Attachment]] = {}
        """Who waits for the answer about a group, by group; a greenlet of each asks."""
        self._log_limit = RateLimit(10.0)

    def attach(self, attachment: Attachment) -> None:
        """Ask the origin of its group to take an attachment; ask the balancer when the group has none."""
        self._guarded(attachment, self._find_origin)

    def _guarded(self, attachment: Attachment, step: Callable[..., None], *args: Any) -> None:
        """One step for one attachment: should it fail, this client is told, and those behind it have their turn."""
        try:
            step(attachment, *args)
        except Exception as error:
            self._edge.counters.internal_errors += 1
            group = attachment.group
            _log.error("internal error", group=group, session=attachment.client.session, error=repr(error))
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group}: internal error")

    def _find_origin(self, attachment: Attachment) -> None:
        group = attachment.group
        # What a guest wants, its home knows of: where no origin has it now, one may have it soon.
        if attachment.is_home and not self._served(group):
            name = group.partition("/")[0]
            attachment.fail(StatusCode.CONNECT_INVALID_APP, f"there is no application {name[:64]!r} here")
            return
        assignment = self._node.view.groups.get(group)
        if assignment is not None and assignment.origin in self._node.view.nodes:
            self._ask_origin(attachment, assignment)
        else:
            self._resolve(attachment)

    def _served(self, group: str) -> bool:
        """Whether some origin has the application of a group; while there is no origin at all nobody can say."""
        name = group.partition("/")[0]
        origins = [node for node in self._node.view.nodes.values() if node.role == "origin"]
        return not origins or any(name in node.apps for node in origins)

    def _resolve(self, attachment: Attachment) -> None:
        waiting = self._resolving.get(attachment.group)
        if waiting is not None:
            waiting.append(attachment)
            return
        self._resolving[attachment.group] = [attachment]
        gevent.spawn(self._ask_balancer, attachment.group)

    def _ask_balancer(self, group: str) -> None:
        """Greenlet: one question at a time to the balancer for all who wait for a group. Each is answered at its own deadline
        at the latest."""
        assignment, failure, pause_s = None, "no origin", _RETRY_S
        try:
            while assignment is None and (left_s := self._time_left(group, failure)) > 0:
                try:
                    assignment = self._node.assign(group, timeout_s=left_s)
                except AssignError as error:
                    failure = str(error)
                    if error.final:
                        break
                    gevent.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
        except Exception as error:
            failure = "internal error"
            self._edge.counters.internal_errors += 1
            _log.error("internal error", group=group, error=repr(error))
        for attachment in self._resolving.pop(group, []):
            if attachment.phase != AttachmentPhase.FINDING:
                continue
            if assignment is None:
                attachment.fail(StatusCode.CONNECT_FAILED, f"{group}: {failure}")
            else:
                self._guarded(attachment, self._ask_origin, assignment)
        self._edge.flush_clients()

    def _time_left(self, group: str, failure: str) -> float:
        """Seconds until the first who waits for a group has waited for `attach_s`; 0 when nobody waits. Those that have are
        told."""
        earliest = time.monotonic() - self._edge.config.attach_s
        waiting: list[Attachment] = []
        for attachment in self._resolving[group]:
            if attachment.phase != AttachmentPhase.FINDING:
                continue
            if attachment.since > earliest:
                waiting.append(attachment)
                continue
            if self._log_limit.passes("no origin"):
                _log.warning(
                    "group has no origin",
                    group=group,
                    session=attachment.client.session,
                    error=failure,
                    suppressed=self._log_limit.suppressed("no origin"),
                )
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group}: {failure}")
        self._resolving[group] = waiting
        self._edge.flush_clients()
        return min((attachment.since - earliest for attachment in waiting), default=0.0)

    def _ask_origin(self, attachment: Attachment, assignment: Assignment) -> None:
        link = self._link_to(assignment.origin)
        if link is None:
            self.retry(attachment, f"{assignment.origin} is not registered")
            return
        client = attachment.client
        type_id, payload = 0, b""
        if attachment.is_home:
            assert client.early is not None
            type_id, payload = client.early[0].type_id, client.early[0].payload
        attachment.link, attachment.phase = link, AttachmentPhase.ASKED
        link.data.attachments[attachment.number] = attachment
        link.send(
            traffic.Attach(
                attachment.number,
                f"{self._node.boot}-{client.session}",
                attachment.group,
                assignment.epoch,
                client.address,
                client.object_encoding,
                False,
                type_id,
                payload,
            )
        )

    def retry(self, attachment: Attachment, reason: str) -> None:
        """An origin could not take an attachment (the mirror is a little older or newer than the origin's, or the origin is
        lost): look for it again, a little later."""
        attachment.link, attachment.phase = None, AttachmentPhase.FINDING
        if time.monotonic() - attachment.since > self._edge.config.attach_s:
            group = attachment.group
            _log.warning(
                "session has no origin", group=group, session=attachment.client.session, reason=reason
            )
            attachment.fail(StatusCode.CONNECT_FAILED, f"{group}: its origin cannot be reached")
        else:
            gevent.spawn_later(_RETRY_S, self._again, attachment)

    def _again(self, attachment: Attachment) -> None:
        if attachment.phase == AttachmentPhase.FINDING:
            self.attach(attachment)
            self._edge.flush_clients()
