"""Moves under way: a few at a time from each origin, asked of the one that has the group, with what became of each."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush
from itertools import count
from typing import Any

import gevent
from gevent.event import Event
from headwater_bus.control import Assigned, MoveGroup, Refused
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import NoAnswerError, RequestError
from headwater_bus.security import SecurityError

from headwater_balancer.board import Move, Why
from headwater_balancer.origins import Origins

_log = get_log("mover")
AT_ONCE = 3
"""Moves at the same time away from one origin. They share its CPU: more take as long in all, and each group pauses for longer."""
MOVE_S = 10.0
"""So long an origin has for a move: handlers that run end first, then it flushes and commits."""
_BUSY_AGAIN_S = 0.5
_BUSY_TIMES = 4
REST_S = 5.0
"""A group whose move failed is left alone for so long, twice as long after each further failure, up to the maximum."""
_REST_MAX_S = 60.0
MAX_TICKETS = 20_000
"""Moves that wait. More are not taken: the next plan has them again."""
_MAX_JOBS = 100
_SEEN_S = 2.0
"""So long a group that has moved counts as moving, until the feed says where it is."""
_URGENCY = {why: place for place, why in enumerate(Why)}


class State(StrEnum):
    """What has become of a move."""

    WAITING = "waiting"
    MOVING = "moving"
    MOVED = "moved"
    FAILED = "failed"
    DROPPED = "dropped"
    """It made no sense any more when its turn came."""


@dataclass(slots=True)
class Ticket:
    """One move. `text` says why it failed or was dropped; `at`: when it last changed state."""

    move: Move
    at: float
    state: State = State.WAITING
    text: str = ""

    def row(self) -> list[Any]:
        """As it stands in Progress."""
        return [self.move.group, self.move.source, self.move.target, self.state.value, self.text]


class Mover:
    """`objection(move)` says why a move makes no sense now, or nothing. `done` is called after each."""

    def __init__(
        self,
        node: Node,
        origins: Origins,
        objection: Callable[[Move], str],
        done: Callable[[], None] = lambda: None,
        at_once: int = AT_ONCE,
    ) -> None:
        self._node, self._origins, self._objection, self._done = node, origins, objection, done
        self._at_once = at_once
        self._waiting: dict[str, list[tuple[int, int, Ticket]]] = {}
        """By source, a heap of (urgency, number, ticket)."""
        self._numbers = count()
        self._tickets: dict[str, Ticket] = {}
        self._jobs: OrderedDict[str, list[Ticket]] = OrderedDict()
        self._next_job = 1
        self._resting: dict[str, tuple[float, int]] = {}
        self._moving: Counter[str] = Counter()
        self._wake = Event()
        self.moved = self.failed = 0

    # Orders

    def start(self, moves: Iterable[Move]) -> str:
        """Begin, in this order, but orders come before drains, those before other rules, and loads last. Returns the job's name.
        A group that moves already goes on with that move."""
        now = time.monotonic()
        tickets: list[Ticket] = []
        for move in moves:
            ticket = self._tickets.get(move.group)
            if ticket is None:
                ticket = Ticket(move, now)
                if len(self._tickets) >= MAX_TICKETS:
                    ticket.state, ticket.text = State.DROPPED, f"{MAX_TICKETS} moves wait already"
                else:
                    self._tickets[move.group] = ticket
                    queue = self._waiting.setdefault(move.source, [])
                    heappush(queue, (_URGENCY[move.why], next(self._numbers), ticket))
            tickets.append(ticket)
        job, self._next_job = str(self._next_job), self._next_job + 1
        self._jobs[job] = tickets
        while len(self._jobs) > _MAX_JOBS:
            self._jobs.popitem(last=False)
        self._wake.set()
        return job

    def job(self, name: str) -> list[Ticket] | None:
        """The moves of a job; None for one that is not known (any more)."""
        return self._jobs.get(name)

    def under_way(self) -> list[Ticket]:
        """All that wait or move, in order."""
        return list(self._tickets.values())

    def ticket(self, group: str) -> Ticket | None:
        """The move of a group that waits or moves."""
        return self._tickets.get(group)

    def resting(self, now: float) -> frozenset[str]:
        """Groups that no plan should touch: they move, or their last move failed a short while ago."""
        for group, (until, failures) in list(self._resting.items()):
            if until + REST_S * 2 ** min(failures, 4) <= now:
                del self._resting[group]
        failed = (group for group, (until, _) in self._resting.items() if until > now)
        return frozenset((*self._tickets, *failed))

    def drop_waiting(self, text: str) -> None:
        """Forget all that has not begun."""
        waiting, self._waiting = self._waiting, {}
        for _, _, ticket in (row for queue in waiting.values() for row in queue):
            self._ended(ticket, State.DROPPED, text)

    # Moving

    def work(self) -> None:
        """Job: begin moves as there is room."""
        while True:
            self._wake.wait()
            self._wake.clear()
            for source in list(self._waiting):
                self._begin(source)

    def _begin(self, source: str) -> None:
        queue = self._waiting[source]
        while queue and self._moving[source] < self._at_once:
            _, _, ticket = heappop(queue)
            text = self._objection(ticket.move)
            if text:
                self._ended(ticket, State.DROPPED, text)
                continue
            ticket.state, ticket.at = State.MOVING, time.monotonic()
            self._moving[source] += 1
            gevent.spawn(self._run, ticket)
        if not queue:
            del self._waiting[source]

    def _run(self, ticket: Ticket) -> None:
        """Greenlet: one move."""
        began = time.monotonic()
        try:
            text = self._carry_out(ticket.move)
        except Exception as error:
            _log.error("internal error: move not carried out", group=ticket.move.group, error=repr(error))
            text = "internal error"
        move = ticket.move
        self._moving[move.source] -= 1
        if not self._moving[move.source]:
            del self._moving[move.source]
        self._wake.set()
        took_ms = round((time.monotonic() - began) * 1000)
        if not text:
            # A plan that is made before the feed says so would move it again.
            self._node.view.wait_for(lambda: not self._is_at(move.group, move.source), _SEEN_S)
        if text:
            self._ended(ticket, State.FAILED, text)
            _log.warning("not moved", group=move.group, source=move.source, target=move.target, reason=text)
        else:
            self._ended(ticket, State.MOVED, "")
            _log.info(
                "moved", group=move.group, source=move.source, target=move.target, why=move.why, ms=took_ms
            )
        self._done()

    def _carry_out(self, move: Move) -> str:
        """Why it failed; empty when the group is where it should be."""
        known = self._node.view.groups.get(move.group)
        if known is None or known.origin != move.source:
            return f"{move.source} has it no more"
        reason = move.reason if move.why is Why.ORDER else f"{move.why}: {move.reason}"
        envelope = MoveGroup(move.group, known.epoch, move.target, reason)
        answer: Any = None
        for _ in range(_BUSY_TIMES):
            try:
                answer = self._origins.ask(move.source, envelope, MOVE_S)
            except NoAnswerError:
                # What became of it is in the table.
                return "" if self._is_there(move, known.epoch) else f"no answer from {move.source}"
            except (RequestError, SecurityError) as error:
                return "" if self._is_there(move, known.epoch) else str(error)
            if not (isinstance(answer, Refused) and answer.code == "busy"):
                break
            gevent.sleep(_BUSY_AGAIN_S)
        if isinstance(answer, Assigned) and answer.origin == move.target:
            return ""
        if self._is_there(move, known.epoch):
            return ""
        if isinstance(answer, Assigned):
            return f"{answer.origin} has it now"
        return answer.text if isinstance(answer, Refused) else f"unexpected {type(answer).__name__}"

    def _is_at(self, group: str, origin: str) -> bool:
        known = self._node.view.groups.get(group)
        return known is not None and known.origin == origin

    def _is_there(self, move: Move, epoch: int) -> bool:
        now = self._node.view.groups.get(move.group)
        return now is not None and now.origin == move.target and now.epoch > epoch

    def _ended(self, ticket: Ticket, state: State, text: str) -> None:
        group = ticket.move.group
        ticket.state, ticket.text, ticket.at = state, text, time.monotonic()
        self._tickets.pop(group, None)
        if state is State.MOVED:
            self.moved += 1
            self._resting.pop(group, None)
        elif state is State.FAILED:
            self.failed += 1
            failures = self._resting.get(group, (0.0, -1))[1] + 1
            self._resting[group] = ticket.at + min(REST_S * 2**failures, _REST_MAX_S), failures
