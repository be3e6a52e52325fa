"""Groups that nobody has: who asks for one, whose origin has gone, and the registry's answer.

Everything that is wanted at the same time is decided together from one snapshot, and granted in batches, the busiest groups
first. However many ask for a group, it is granted once.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from headwater_bus.control import MAX_GROUP_BYTES, Assigned, AssignRequest, Granted, Grants, Refused
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import Caller, RequestError

from headwater_balancer.decide import decide
from headwater_balancer.holdings import Holdings
from headwater_balancer.policy import Policy
from headwater_balancer.rules import Rules
from headwater_balancer.snapshot import Grant, Notice

_log = get_log("balancer")
_SHUN_S = 1.0
"""So long nothing goes to an origin that the registry said is not there: the feed will say so, too."""
_AGAIN_S = 0.2
"""After a batch that the registry did not answer, so long until the next attempt."""
MAX_WAITING = 100_000
"""Requests that wait for an answer. More are refused; edges ask again."""
BATCH = 200
"""Groups of one Grants."""
MAX_GRANTING = 2000
"""Groups that the registry is asked for at once; others wait here."""
_MAX_NOTICES = 1000


class Granter:
    """`leads`, `policy` and `rules` say how things stand now; `busy(group)` is what is known of a group's work, for the order.
    `server` answers AssignRequest; its owner binds it and may add other requests."""

    def __init__(
        self,
        node: Node,
        holdings: Holdings,
        request_s: float,
        leads: Callable[[], str],
        policy: Callable[[], Policy],
        rules: Callable[[], Rules],
        busy: Callable[[str], tuple[int, float]],
    ) -> None:
        self._node, self._holdings, self._request_s = node, holdings, request_s
        self.server = node.serve({AssignRequest: self.take})
        self._leads, self._policy, self._rules, self._busy = leads, policy, rules, busy
        self._callers: dict[str, list[Caller]] = defaultdict(list)
        self._since: dict[str, float] = {}
        self._wanted: dict[str, None] = {}
        self._granting: set[str] = set()
        self._homeless: set[str] = set()
        self._wake = Event()
        self._shunned: dict[str, float] = {}
        self._noticed: set[str] = set()
        self._waiting = self._granted = self._refused = 0
        self._slowest_ms = 0.0

    def changed(self, change: list[Any]) -> None:
        """A row of the feed, which `holdings` has seen."""
        kind = change[0]
        if kind == "node":
            self._shunned.pop(change[1][0], None)
        if kind in ("node", "node-gone", "settings"):
            # Somebody else may be there for those that nobody could have.
            self._homeless.clear()
            self._wake.set()
        elif kind == "group" and not change[2]:
            self._homeless.discard(change[1])
            self._wake.set()

    # Requests

    def take(self, caller: Caller, request: AssignRequest) -> Assigned | Refused | None:
        """Handler: answered now, or when the registry has answered."""
        group, view = request.group, self._node.view
        known = view.groups.get(group)
        if known is not None and known.origin in view.nodes:
            return Assigned(known.group, known.origin, known.epoch)
        if caller.user is not None and caller.user.startswith("operator-"):
            return Refused("not-allowed", f"operators may look only, the key is {caller.user}'s")
        size = len(group.encode(errors="surrogatepass"))
        if size > MAX_GROUP_BYTES:
            return Refused("bad-name", f"group: {size} bytes, expected at most {MAX_GROUP_BYTES}")
        if not group.isprintable():
            return Refused("bad-name", f"group {group!r}: expected printable characters")
        if not self._node.registered.is_set():
            self._refused += 1
            return Refused(
                "registry-away", f"{group[:64]}: nobody has it yet, and the registry is away; ask again"
            )
        leader = self._leads()
        if leader != self._node.node_id:
            return Refused("standby", f"{leader or 'no balancer'} decides, not {self._node.node_id}")
        if self._waiting >= MAX_WAITING:
            self._refused += 1
            return Refused("busy", f"{MAX_WAITING} requests wait here, ask again")
        self._waiting += 1
        self._callers[group].append(caller)
        if group not in self._since:
            self._since[group] = time.monotonic()
            self._wanted[group] = None
            self._wake.set()
        return None

    def _answer(self, group: str, answer: Assigned | Refused) -> None:
        if group not in self._since:
            return  # An orphan that nobody has asked for.
        self._slowest_ms = max(self._slowest_ms, (time.monotonic() - self._since.pop(group)) * 1000)
        callers = self._callers.pop(group)
        self._waiting -= len(callers)
        if isinstance(answer, Refused):
            self._refused += len(callers)
        for caller in callers:
            self.server.answer(caller, answer)

    # Decisions

    def work(self) -> None:
        """Job: decide whenever something is wanted."""
        while True:
            self._wake.wait()
            self._wake.clear()
            leader = self._leads()
            if leader == self._node.node_id:
                self._decide(time.monotonic())
            else:
                self._stand_by(leader)

    def _stand_by(self, leader: str) -> None:
        """Another balancer decides: whoever waits asks that one."""
        wanted, self._wanted = self._wanted, {}
        for group in wanted:
            self._answer(group, Refused("standby", f"{leader or 'no balancer'} decides now"))

    def _orphans(self) -> list[str]:
        found = [
            group
            for group in self._holdings.orphans
            if group not in self._granting and group not in self._homeless
        ]
        return sorted(found, key=self._busy, reverse=True)

    def _decide(self, now: float) -> None:
        for origin, until in list(self._shunned.items()):
            if until <= now:
                del self._shunned[origin]
        room = MAX_GRANTING - len(self._granting)
        asked = [group for group in self._wanted if group not in self._granting]
        wanted = tuple(dict.fromkeys([*self._orphans(), *asked]))[:room]
        if not wanted:
            return
        for group in wanted:
            self._wanted.pop(group, None)
        snapshot = self._holdings.snapshot(
            self._node.view.nodes.values(), wanted, now, frozenset(self._shunned)
        )
        grants: list[Grant] = []
        for action in decide(snapshot, now, self._policy(), self._rules()):
            if isinstance(action, Notice):
                self._notice(action)
            else:
                grants.append(action)
                self._holdings.granting(action.group, action.origin, now)
                self._granting.add(action.group)
        for first in range(0, len(grants), BATCH):
            gevent.spawn(self._grant, grants[first : first + BATCH])
        for group in wanted:
            if group not in self._granting:
                self._undecided(group)

    def _undecided(self, group: str) -> None:
        """Somebody has it by now, or there is nobody to have it."""
        known = self._node.view.groups.get(group)
        if known is not None and known.origin:
            self._answer(group, Assigned(known.group, known.origin, known.epoch))
            return
        if known is not None:
            self._homeless.add(group)
        text = (
            f"{group[:64]}: no origin serves its application (headwater-origin serve --app)"
            if not self._rules().drained
            else f"{group[:64]}: no origin that is not drained serves its application "
            "(headwater-origin serve --app, headwater-balancer undrain)"
        )
        self._notice(Notice(text))
        self._answer(group, Refused("no-origin", text))

    def _notice(self, notice: Notice) -> None:
        if notice.text not in self._noticed and len(self._noticed) < _MAX_NOTICES:
            self._noticed.add(notice.text)
            _log.warning(notice.text)

    def _grant(self, grants: list[Grant]) -> None:
        """Greenlet: one Grants, and what comes of it."""
        asked = Grants([[grant.group, grant.origin] for grant in grants])
        rows: dict[str, list[Any]] = {}
        away = ""
        try:
            answer = self._node.request_registry(asked, self._request_s)
            if isinstance(answer, Granted):
                rows = {row[0]: row for row in answer.rows}
            else:
                away = answer.text if isinstance(answer, Refused) else type(answer).__name__
        except RequestError as error:
            away = str(error)
        granted: dict[str, list[str]] = defaultdict(list)
        for grant in grants:
            self._granting.discard(grant.group)
            row = rows.get(grant.group)
            if row is not None and row[1]:
                granted[row[1]].append(row[0])
                self._got(*row[:3])
            else:
                self._holdings.not_granted(grant.group)
                self._not_got(grant, str(row[3]) if row is not None else "", away)
        for origin, groups in granted.items():
            _log.info("granted", groups=len(groups), to=origin, first=groups[0])
        if away:
            _log.warning("not granted", groups=len(grants), reason=away)
            gevent.spawn_later(_AGAIN_S, self._wake.set)
        else:
            self._wake.set()

    def _got(self, group: str, origin: str, epoch: int) -> None:
        self._granted += 1
        self._answer(group, Assigned(group, origin, epoch))

    def _not_got(self, grant: Grant, code: str, away: str) -> None:
        group = grant.group
        if code == "unknown-node":
            # It has just gone: another one may take the group.
            self._shunned.setdefault(grant.origin, time.monotonic() + _SHUN_S)
            if time.monotonic() - self._since.get(group, 0.0) < self._request_s:
                self._wanted[group] = None
                return
        if code and code != "unknown-node":
            self._homeless.add(group)
            _log.warning("not granted", group=group, origin=grant.origin, reason=code)
        self._answer(
            group,
            Refused("registry-away", f"{group[:64]}: {away}; ask again")
            if not code
            else Refused(code, f"{group[:64]}: not granted to {grant.origin}: {code}"),
        )

    def health(self) -> dict[str, Any]:
        """For HealthRequest."""
        return {
            "groups": len(self._node.view.groups),
            "orphans": len(self._holdings.orphans),
            "granted": self._granted,
            "refused": self._refused,
            "waiting": self._waiting,
            "slowest_assign_ms": round(self._slowest_ms, 1),
        }
