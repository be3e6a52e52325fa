"""The automatic part: loads are asked for, a plan is made, and what should move is given to the mover, round after round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group
from headwater_bus.control import GroupLoads, GroupLoadsRequest, History, HistoryRequest
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import RequestError
from headwater_bus.security import SecurityError
from headwater_bus.view import NodeInfo

from headwater_balancer.board import Balance, GroupState, OriginState, Why
from headwater_balancer.holdings import number
from headwater_balancer.loads import LoadBook
from headwater_balancer.mover import Mover
from headwater_balancer.origins import Origins
from headwater_balancer.pace import AT_A_TIME, PATIENCE_S, Pace
from headwater_balancer.plan import COOLDOWN_S, Plan, fair_shares, plan
from headwater_balancer.rules import Rules

_log = get_log("rebalance")
ROUND_S = 2.0
"""So often origins are asked for their groups' loads, and then a plan is made."""
_STANDBY_ROUNDS = 5
"""A balancer that stands by asks only once in so many rounds: it knows enough when it has to lead."""
_ANSWER_S = 1.5
_HISTORY = 1000


class Rebalancer:
    """`rules` and `leads` say how things stand. `moved` must be told of every group that changes its origin."""

    def __init__(
        self,
        node: Node,
        origins: Origins,
        mover: Mover,
        rules: Callable[[], Rules],
        leads: Callable[[], bool],
        cooldown_s: float = COOLDOWN_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.book = LoadBook()
        self.last = Plan()
        """The last plan, for status."""
        self._pace = Pace(patience_s)
        self._node, self._origins, self._mover = node, origins, mover
        self._rules, self._leads = rules, leads
        self._cooldown_s = cooldown_s
        self._moved_at: dict[str, float] = {}
        self._wake = Event()
        self._rounds = 0
        self._bad_rows: set[str] = set()
        self._remembers = False

    def wake(self) -> None:
        """Rules, origins or moves have changed: plan now."""
        self._wake.set()

    def moved(self, group: str, now: float) -> None:
        """A group has another origin."""
        self._moved_at[group] = now

    def origin_gone(self, origin: str) -> None:
        """It is not asked any more."""
        self.book.origin_gone(origin)
        self._bad_rows.discard(origin)

    # Loads

    def poll(self) -> None:
        """Job: ask all origins for their groups' loads, and plan after each round."""
        while True:
            began = time.monotonic()
            leads = self._leads()
            if leads or self._rounds % _STANDBY_ROUNDS == 0:
                asking = Group()
                for info in self._origin_nodes():
                    asking.spawn(self._ask, info)
                asking.join()
            self._rounds += 1
            self._wake.set()
            gevent.sleep(max(0.1, ROUND_S - (time.monotonic() - began)))

    def _ask(self, info: NodeInfo) -> None:
        try:
            answer = self._origins.ask(info.node_id, GroupLoadsRequest(), _ANSWER_S)
        except (RequestError, SecurityError):
            return  # It is not measured, as long as that goes on.
        if not isinstance(answer, GroupLoads):
            return
        cpu = number(info.load, "cpu_percent")
        bad = self.book.take(info.node_id, answer.rows, cpu, time.monotonic())
        if bad and info.node_id not in self._bad_rows:
            self._bad_rows.add(info.node_id)
            _log.warning("loads not readable", origin=info.node_id, rows=bad)

    def _origin_nodes(self) -> list[NodeInfo]:
        return [info for info in self._node.view.nodes.values() if info.role == "origin"]

    # Plans

    def balance(self, now: float, active: bool) -> Balance:
        """The cluster as a plan sees it: groups that are being moved count where they go."""
        view, book = self._node.view, self.book
        origins = {
            info.node_id: OriginState(
                info.node_id, info.capacity, info.apps, book.is_fresh(info.node_id, now)
            )
            for info in self._origin_nodes()
        }
        groups: dict[str, GroupState] = {}
        for name, assignment in view.groups.items():
            ticket = self._mover.ticket(name)
            origin = ticket.move.target if ticket is not None else assignment.origin
            if origin in origins:
                rates = book.rates(name)
                groups[name] = GroupState(name, origin, rates.load, rates.members)
        return Balance(origins, groups, self._moved_at, self._mover.resting(now), active)

    def plan(self, rules: Rules, active: bool) -> Plan:
        """What should move now under these rules; `active`: loads are evened out as well."""
        now = time.monotonic()
        return plan(self.balance(now, active), rules, now, self._cooldown_s)

    def work(self) -> None:
        """Job: plan whenever something has changed, and have it moved."""
        while True:
            self._wake.wait()
            self._wake.clear()
            if not self._leads():
                self._stand_by()
            elif self._node.registered.is_set():
                self._remember()
                self._round(time.monotonic())
                # Changes come in crowds: one plan for all of them.
                gevent.sleep(0.05)

    def _stand_by(self) -> None:
        self._remembers = False
        self._pace.stop()
        self.last = Plan()
        self._mover.drop_waiting("another balancer leads")

    def _remember(self) -> None:
        """Which groups have moved lately, from before this balancer led."""
        if self._remembers:
            return
        try:
            answer = self._node.request_registry(HistoryRequest(_HISTORY))
        except RequestError:
            return
        self._remembers = True
        for row in answer.rows if isinstance(answer, History) else ():
            age_s = time.time() - row[0]
            if row[1] == "moved" and 0 <= age_s < self._cooldown_s:
                self._moved_at.setdefault(row[2], time.monotonic() - age_s)

    def _round(self, now: float) -> None:
        for group, at in list(self._moved_at.items()):
            if now - at >= self._cooldown_s:
                del self._moved_at[group]
        rules = self._rules()
        made = plan(self.balance(now, self.active), rules, now, self._cooldown_s, AT_A_TIME)
        for note in made.notes:
            if note not in self.last.notes:
                _log.warning("not moved", reason=note)
        self.last = made
        evening = sum(ticket.move.why is Why.LOAD for ticket in self._mover.under_way())
        moves = self._pace.begin(made, evening, now, rules.paused)
        if moves:
            _log.info("moving", groups=len(moves), planned=len(made.moves))
            self._mover.start(moves)

    @property
    def active(self) -> bool:
        """Whether loads are being evened out."""
        return self._pace.active

    def shares(self) -> Mapping[str, dict[str, Any]]:
        """By origin, for status: load, fair share, members, messages and bytes per second."""
        owners = [(name, assignment.origin) for name, assignment in self._node.view.groups.items()]
        totals = self.book.totals(owners)
        # Not those of the last plan: its loads are some seconds old.
        balance = self.balance(time.monotonic(), self.active)
        even = {share.origin: share.even for share in fair_shares(balance, self._rules())}
        return {
            info.node_id: {
                "load": round(totals[info.node_id].load, 2) if info.node_id in totals else 0.0,
                "fair_share": round(even.get(info.node_id, 0.0), 2),
                "members": totals[info.node_id].members if info.node_id in totals else 0,
                "messages_s": round(totals[info.node_id].messages_s, 1) if info.node_id in totals else 0.0,
                "bytes_s": round(totals[info.node_id].bytes_s) if info.node_id in totals else 0,
                "measured": self.book.is_fresh(info.node_id, time.monotonic()),
            }
            for info in self._origin_nodes()
        }

    def manual_plan(self, rules: Rules) -> Plan:
        """What a rebalance that an operator orders would move, also while balancing is paused."""
        return self.plan(replace(rules, paused=False), active=True)
