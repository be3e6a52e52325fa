"""Hands groups of this origin over to others, as the balancer asks for it.

What edges say about a group meanwhile is held. Handlers end, the application stops, everything is committed, the journal is
closed with a snapshot; then the registry gives the group to the other origin, and its sessions end here silently: their edges
attach them there, and send again what was held. Where the registry refuses, or does not answer, the group goes on here, and so
does what was held.
"""

import time
from typing import TYPE_CHECKING

import gevent
from headwater_bus.control import Assigned, GroupLoads, GroupLoadsRequest, HandOver, MoveGroup, Refused
from headwater_bus.logs import get_log
from headwater_bus.requests import RequestError

from headwater_origin import hooks
from headwater_origin.errors import GroupLost
from headwater_origin.held import Held

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.origin import Origin

_log = get_log("origin")
_COMMIT_S = 2.0
"""So long the last commit and the snapshot may take; `on_stop` has as long again."""
_TRIES, _AGAIN_S = 3, 0.1


class _Failed(Exception):
    """A move that is not carried out: `code` and text of the answer."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Moves:
    """See the module."""

    def __init__(self, origin: "Origin") -> None:
        self._origin = origin
        self._moving: dict[str, MoveGroup] = {}

    def __contains__(self, group: object) -> bool:
        return group in self._moving

    def __len__(self) -> int:
        return len(self._moving)

    def loads(self, request: GroupLoadsRequest) -> GroupLoads:
        """What each group has cost."""
        return GroupLoads(
            [
                [
                    group.name,
                    group.epoch,
                    len(group.sessions) + len(group.absent),
                    group.load.messages,
                    group.load.bytes,
                ]
                for group in self._origin.groups.values()
            ]
        )

    def move(self, request: MoveGroup) -> Assigned | Refused:
        """Carry it out. Waits, as long as handlers, the store and the registry need."""
        group = self._origin.groups.get(request.group)
        if self._origin.stopping or group is None or group.stopped or group.epoch != request.epoch:
            return Refused("not-mine", f"group {request.group} is not here at epoch {request.epoch}")
        if request.group in self._moving:
            return Refused("busy", f"group {request.group} is being moved already")
        if request.origin == self._origin.node.node_id:
            return Assigned(group.name, request.origin, group.epoch)
        target = self._origin.node.view.nodes.get(request.origin)
        if target is None or target.role != "origin":
            code = "unknown-node" if target is None else "not-an-origin"
            return Refused(code, f"{request.origin} is no origin that is registered")
        self._moving[request.group] = request
        started = time.monotonic()
        try:
            answer = self._move(group, request)
        except _Failed as failed:
            self._origin.counters.moves_failed += 1
            _log.warning("group not moved", group=group.name, to=request.origin, reason=str(failed))
            return Refused(failed.code, str(failed))
        finally:
            del self._moving[request.group]
            self._origin.moved(group)
        self._origin.counters.groups_handed_over += 1
        took_ms = round((time.monotonic() - started) * 1000)
        _log.debug("group moved", group=group.name, to=answer.origin, epoch=answer.epoch, ms=took_ms)
        return answer

    def _move(self, group: "Group", request: MoveGroup) -> Assigned:
        config = self._origin.config
        if not group.started.wait(timeout=config.move_work_s):
            raise _Failed("busy", f"group {group.name} has not started yet")
        held = group.held = Held(group, config.move_held_bytes)
        stopped = False
        try:
            group.quiesce(config.move_work_s)
            self._still_mine(group)
            with gevent.Timeout(2 * _COMMIT_S, _Failed("store-away", "it could not be committed in time")):
                stopped = True
                group.app.stop()
                self._origin.committer.finish(group, keeps=True)
            self._still_mine(group)
            answer = self._hand_over(group, request)
        except (GroupLost, _Failed) as error:
            failed = error if isinstance(error, _Failed) else _Failed("not-mine", str(error))
            self._thaw(group, held, stopped)
            raise failed from None
        group.held = None
        self._origin.forget(group)
        group.close(f"it is at {answer.origin} now")
        return answer

    def _still_mine(self, group: "Group") -> None:
        if self._origin.groups.get(group.name) is not group or group.failure is not None:
            raise _Failed("not-mine", f"group {group.name} is not here any more")

    def _hand_over(self, group: "Group", request: MoveGroup) -> Assigned:
        """Have the registry give the group to the other one; asked again where its answer is lost, as it does not do it twice."""
        node = self._origin.node
        asked = HandOver(group.name, request.epoch, request.origin, request.reason)
        for left in reversed(range(_TRIES)):
            try:
                answer = node.request_registry(asked)
            except RequestError as error:
                if not left:
                    raise _Failed("registry-away", str(error)) from error
                gevent.sleep(_AGAIN_S)
                continue
            if isinstance(answer, Assigned) and answer.origin != node.node_id:
                return answer
            text = answer.text if isinstance(answer, Refused) else f"the registry answered {answer}"
            raise _Failed(answer.code if isinstance(answer, Refused) else "internal", text)
        raise AssertionError("unreachable")

    def _thaw(self, group: "Group", held: Held, stopped: bool) -> None:
        """It goes on here, at the epoch that it had, unless it is another's by now: then its edges know where."""
        group.held = None
        if self._origin.groups.get(group.name) is not group:
            return
        if not self._origin.owns(group.name, group.epoch):
            # The registry's answer was lost, but not the news.
            self._origin.forget(group)
            group.outputs.give_up()
            group.close("another origin has it")
            return
        if stopped:
            self._origin.committer.resume(group)
            self._start_again(group)
        for session in list(group.sessions):
            if session.unfinished:
                group.bounce(session, "what it asked for was interrupted by a move")
        for port, envelope in held.envelopes:
            if port.up:
                self._origin.take(port, (envelope,))

    def _start_again(self, group: "Group") -> None:
        try:
            group.app.start_again()
        except hooks.FAILURES as error:
            hooks.failed(group, "on_start", error)
