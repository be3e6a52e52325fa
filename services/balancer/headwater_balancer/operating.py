"""Operators' orders at the leading balancer: looked at, kept in the registry, answered with what follows from them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gevent
from gevent.lock import Semaphore
from headwater_bus.control import (
    BalanceRequest,
    BalanceState,
    Done,
    Order,
    Ordered,
    Progress,
    ProgressRequest,
    PutSettings,
    Refused,
)
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import Caller, RequestError, RequestServer

from headwater_balancer.board import Move, Why
from headwater_balancer.mover import Mover, State
from headwater_balancer.orders import OrderError, Sight, check_move, objection, ordered
from headwater_balancer.plan import Plan
from headwater_balancer.policy import known_policies
from headwater_balancer.rebalancing import Rebalancer
from headwater_balancer.rules import Rules

_log = get_log("operating")
MAX_ORDERS = 100
"""Orders that wait for the one before them. More are refused."""
_ATTEMPTS = 5
"""So often an order is looked at again, when another balancer has changed the rules meanwhile."""
_SEEN_S = 1.0


class Operating:
    """Answers Order, ProgressRequest and BalanceRequest at `server`."""

    def __init__(
        self,
        node: Node,
        server: RequestServer,
        mover: Mover,
        rebalancer: Rebalancer,
        rules: Callable[[], Rules],
        leader: Callable[[], str],
        policy: Callable[[], str],
        request_s: float,
    ) -> None:
        self._node, self._server, self._mover, self._rebalancer = node, server, mover, rebalancer
        self._rules, self._leader, self._policy = rules, leader, policy
        self._request_s = request_s
        self._one_at_a_time = Semaphore()
        # Looked for once: it reads the metadata of all that is installed.
        self._policies = known_policies()
        self._orders = 0
        server.add(Order, self._take)
        server.add(ProgressRequest, self._progress)
        server.add(BalanceRequest, lambda caller, request: BalanceState(self.state()))

    # Requests

    def _take(self, caller: Caller, order: Order) -> Refused | None:
        user, me = caller.user, self._node.node_id
        if user is not None and not user.startswith("operator-"):
            return Refused("not-allowed", f"orders need the key of an operator-NAME, this one is {user}'s")
        leader = self._leader()
        if leader != me:
            return Refused("standby", f"{leader or 'no balancer'} decides, not {me}")
        if self._orders >= MAX_ORDERS:
            return Refused("busy", f"{MAX_ORDERS} orders wait here, ask again")
        self._orders += 1
        gevent.spawn(self._answer, caller, order)
        return None

    def _answer(self, caller: Caller, order: Order) -> None:
        """Greenlet: one order after the other, because each is looked at with what those before it have changed."""
        answer: Any
        try:
            with self._one_at_a_time:
                answer = self._carry_out(order, caller.user or "operator")
        except OrderError as error:
            answer = Refused(error.code, str(error))
        except RequestError as error:
            answer = Refused(
                "registry-away", f"{error}; nothing is changed as far as is known here, look and order again"
            )
        except Exception as error:
            _log.error("request failed", kind="Order", order=order.order, error=repr(error))
            answer = Refused("internal", f"{order.order}: internal error")
        finally:
            self._orders -= 1
        self._server.answer(caller, answer)

    def _progress(self, caller: Caller, request: ProgressRequest) -> Progress | Refused:
        tickets = self._mover.job(request.job)
        if tickets is None:
            return Refused("unknown-job", f"{self._node.node_id} knows no job {request.job[:16]}")
        return Progress([ticket.row() for ticket in tickets])

    # Orders

    def sight(self) -> Sight:
        """What orders are looked at with."""
        view = self._node.view
        return Sight(
            {info.node_id: info.apps for info in view.nodes.values() if info.role == "origin"},
            {name: assignment.origin for name, assignment in view.groups.items()},
            frozenset(ticket.move.group for ticket in self._mover.under_way()),
            self._policies,
            self._policy(),
        )

    def objection(self, move: Move) -> str:
        """Why a move that waited makes no sense any more; for the mover."""
        known = self._node.view.groups.get(move.group)
        if known is None or known.origin != move.source:
            return f"{move.source} has it no more"
        rules, view = self._rules(), self._node.view
        apps = {info.node_id: info.apps for info in view.nodes.values() if info.role == "origin"}
        owners = {name: known.origin for name, known in view.groups.items()} if rules.apart else {}
        return objection(move.group, move.target, rules, Sight(apps, owners))

    def _carry_out(self, order: Order, who: str) -> Ordered:
        if order.order == "move":
            return self._move(order, who)
        if order.order == "rebalance":
            return self._rebalance(order, who)
        for _ in range(_ATTEMPTS):
            before = self._rules()
            after = ordered(order.order, order.values, before, self.sight())
            made = self._follows(after)
            if order.dry_run:
                return _answer(made)
            if self._keep(before, after):
                _log.info("ordered", order=order.order, values=" ".join(order.values), by=who)
                job = self._mover.start(made.moves) if made.moves else ""
                self._rebalancer.wake()
                return _answer(made, job)
        raise OrderError("busy", "another balancer changes the rules all the time; order again")

    def _follows(self, rules: Rules) -> Plan:
        """What moves by itself under these rules, and what would if balancing were not paused."""
        made = self._rebalancer.plan(rules, active=False)
        if not rules.paused:
            return made
        waiting = len(self._rebalancer.plan(replace(rules, paused=False), active=False).moves) - len(
            made.moves
        )
        if waiting <= 0:
            return made
        note = f"balancing is paused: {waiting} groups stay where they are until headwater-balancer rebalance or resume"
        return replace(made, notes=(*made.notes, note))

    def _keep(self, before: Rules, after: Rules) -> bool:
        """Have the registry keep the rules; False when they were changed by another one meanwhile."""
        answer = self._node.request_registry(
            PutSettings(before.version, after.to_settings()), self._request_s
        )
        if isinstance(answer, Refused) and answer.code != "changed":
            raise OrderError(answer.code, answer.text)
        kept = isinstance(answer, Done)
        # The next order, and whoever looks now, sees what the feed says.
        self._node.view.wait_for(lambda: self._rules().version > before.version, _SEEN_S)
        return kept

    def _move(self, order: Order, who: str) -> Ordered:
        if len(order.values) != 2 or not all(isinstance(value, str) for value in order.values):
            raise OrderError("bad-order", "move: expected a group and an origin")
        group, target = order.values
        check_move(group, target, self._rules(), self.sight())
        rates, source = self._rebalancer.book.rates(group), self._node.view.groups[group].origin
        move = Move(group, source, target, rates.load, rates.members, Why.ORDER, f"ordered by {who}")
        if order.dry_run:
            return _answer(Plan((move,)))
        _log.info("ordered", order="move", values=f"{group} {target}", by=who)
        return _answer(Plan((move,)), self._mover.start([move]))

    def _rebalance(self, order: Order, who: str) -> Ordered:
        here = self.sight().apps.keys() - self._rules().drained
        if len(here) < 2:
            raise OrderError(
                "alone", f"{len(here)} origin that is not drained is here: there is nothing to balance"
            )
        made = self._rebalancer.manual_plan(self._rules())
        if order.dry_run:
            return _answer(made)
        moves = made.moves if not order.moves else self._agreed(order.moves, who)
        _log.info("ordered", order="rebalance", groups=len(moves), by=who)
        return _answer(
            Plan(moves, made.notes, made.uneven, made.before, made.after),
            self._mover.start(moves) if moves else "",
        )

    def _agreed(self, rows: list[list[Any]], who: str) -> tuple[Move, ...]:
        """The moves that an operator has seen. Each is looked at again when its turn comes."""
        moves: list[Move] = []
        for row in rows:
            if len(row) < 3 or not all(isinstance(text, str) for text in row[:3]):
                raise OrderError("bad-order", "rebalance: expected moves as [group, from, to]")
            rates = self._rebalancer.book.rates(row[0])
            moves.append(
                Move(row[0], row[1], row[2], rates.load, rates.members, Why.ORDER, f"rebalance by {who}")
            )
        return tuple(moves)

    # Looking

    def state(self) -> dict[str, Any]:
        """For BalanceRequest."""
        rules = self._rules()
        under_way = self._mover.under_way()
        return {
            "node_id": self._node.node_id,
            "leader": self._leader(),
            "policy": self._policy(),
            "rules": rules.to_settings(),
            "evening_out": self._rebalancer.active,
            "origins": dict(self._rebalancer.shares()),
            "moving": [ticket.row() for ticket in under_way if ticket.state is State.MOVING],
            "waiting": sum(ticket.state is State.WAITING for ticket in under_way),
            "moved": self._mover.moved,
            "failed": self._mover.failed,
            "notes": list(self._rebalancer.last.notes),
        }


def _answer(made: Plan, job: str = "") -> Ordered:
    after = {share.origin: share for share in made.after}
    return Ordered(
        [
            [move.group, move.source, move.target, round(move.load, 2), move.members, move.reason]
            for move in made.moves
        ],
        [
            [
                share.origin,
                share.capacity,
                share.groups,
                round(share.load, 2),
                round(after[share.origin].even, 2),
                after[share.origin].groups,
                # Sums of floats: nothing left may be a little less than nothing.
                round(max(0.0, after[share.origin].load), 2),
            ]
            for share in made.before
        ],
        list(made.notes),
        job,
    )
