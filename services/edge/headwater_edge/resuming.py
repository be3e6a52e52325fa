"""How often and how long sessions are without an origin: for the log, the health answer and tests."""

import time
from collections.abc import Sequence
from typing import Any

from headwater_bus.logs import get_log

from headwater_edge.attachment import Attachment
from headwater_edge.counters import Counters
from headwater_edge.groups import EdgeGroup

_log = get_log("edge")


class LinkLoss:
    """A link that was lost, with the groups whose sessions still wait for another."""

    __slots__ = ("at", "ended", "groups", "longest_s", "origin", "resumed")

    def __init__(self, origin: str, at: float) -> None:
        self.origin, self.at = origin, at
        self.groups = self.resumed = self.ended = 0
        self.longest_s = 0.0


class Resuming:
    """Counts attachments from the loss of their origin until the next one goes on with them."""

    __slots__ = ("_counters", "last_gap_ms", "longest_gap_ms", "sessions")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.sessions = 0
        """Attachments that are without an origin now."""
        self.last_gap_ms = self.longest_gap_ms = 0

    def link_lost(self, origin: str, reason: str, groups: Sequence[EdgeGroup], now: float) -> None:
        """These groups leave the link to an origin, which is lost."""
        loss = LinkLoss(origin, now)
        sessions = 0
        for group in groups:
            self.leave(group, now)
            sessions += group.resuming
            if group.resuming and group.loss is None:
                group.loss = loss
                loss.groups += 1
        self._counters.links_lost += 1
        _log.warning("link down", origin=origin, reason=reason, sessions=sessions, groups=len(groups))

    def leave(self, group: EdgeGroup, now: float) -> None:
        """A group leaves its link."""
        self.sessions += group.leave(now)

    def restored(self, group: EdgeGroup) -> None:
        """An attachment that another edge had waits for the group's origin."""
        group.resuming += 1
        self.sessions += 1

    def lost(self, group: EdgeGroup, attachment: Attachment) -> None:
        """An origin of a group has one attachment not, or no longer."""
        self.sessions += group.lose(attachment, time.monotonic())

    def resumed(self, group: EdgeGroup, attachment: Attachment) -> None:
        """An origin goes on with an attachment."""
        gap_s = time.monotonic() - attachment.since
        self.last_gap_ms = round(gap_s * 1000)
        self.longest_gap_ms = max(self.longest_gap_ms, self.last_gap_ms)
        self._counters.sessions_resumed += 1
        if group.loss is not None:
            group.loss.resumed += 1
            group.loss.longest_s = max(group.loss.longest_s, gap_s)
        self._one_less(group)

    def ended(self, group: EdgeGroup) -> None:
        """An attachment that waited ends."""
        if group.loss is not None:
            group.loss.ended += 1
        self._one_less(group)

    def _one_less(self, group: EdgeGroup) -> None:
        self.sessions -= 1
        group.resuming -= 1
        if group.resuming:
            return
        group.tidy()
        loss, group.loss = group.loss, None
        if loss is None:
            return
        loss.groups -= 1
        if not loss.groups:
            _log.info(
                "link loss is over",
                origin=loss.origin,
                resumed=loss.resumed,
                ended=loss.ended,
                longest_ms=round(loss.longest_s * 1000),
                all_after_ms=round((time.monotonic() - loss.at) * 1000),
            )

    def health(self) -> dict[str, Any]:
        """What the health answer says of it."""
        return {
            "resuming": self.sessions,
            "last_gap_ms": self.last_gap_ms,
            "longest_gap_ms": self.longest_gap_ms,
        }
