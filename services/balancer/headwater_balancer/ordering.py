"""A command line's side of orders: it finds the leading balancer, shows what would happen, asks, orders and follows."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click
from headwater_bus.control import (
    BalanceRequest,
    BalanceState,
    Order,
    Ordered,
    Progress,
    ProgressRequest,
    Snapshot,
    Subscribe,
)
from headwater_bus.options import ClusterClient, OperatorError, operator_errors
from headwater_bus.progress import interrupt_here, progress_bar
from headwater_bus.requests import RefusedError, RequestError, ask
from headwater_bus.view import NodeInfo, leading_balancer

from headwater_balancer import tables

_ANSWER_S = 5.0
_AGAIN_S = 0.3
_ELECTION_S = 4.0
"""So long a command goes on asking, while balancers change the lead or none answers."""
_FAILED = 1
"""Exit status when the order was taken, but not all of it could be done."""
_INTERRUPTED = "it goes on by itself; headwater-balancer status --watch shows it"
_STUCK_S = 15.0
"""A drain that gets no further for so long, for reasons that the balancer names, has failed."""


class Operator:
    """One command's connection to the cluster."""

    def __init__(self, options: dict[str, Any]) -> None:
        interrupt_here()
        self.client = ClusterClient(options)
        self.as_json = self.client.as_json
        self._leader: NodeInfo | None = None

    # Asking

    def snapshot(self) -> Snapshot:
        """The registry's table."""
        answer = self.client.ask(Subscribe("operator"))
        assert isinstance(answer, Snapshot)
        return answer

    def leader(self, snapshot: Snapshot | None = None) -> NodeInfo | None:
        """The balancer that decides, if any."""
        rows = (snapshot or self.snapshot()).nodes
        return leading_balancer(NodeInfo(*row[:7]) for row in rows)

    def ask(self, envelope: Any) -> Any:
        """Ask the leading balancer. Raises OperatorError with what to do about it, also where it refuses."""
        try:
            return self._ask(envelope)
        except RefusedError as error:
            raise OperatorError(str(error)) from error

    def _ask(self, envelope: Any) -> Any:
        """Raises RefusedError too, whose text is the balancer's own."""
        deadline = time.monotonic() + _ELECTION_S
        while True:
            leader = self._leader = self._leader or self.leader()
            late = time.monotonic() > deadline
            if leader is None and late:
                raise OperatorError("no balancer is registered: start one (headwater-balancer serve)")
            if leader is not None:
                client = self.client
                try:
                    with operator_errors():
                        return ask(
                            client.context,
                            client.security,
                            leader.endpoint,
                            leader.node_id,
                            envelope,
                            _ANSWER_S,
                            patient=False,
                        )
                except RefusedError as error:
                    self._leader = None if error.code == "standby" else leader
                    if error.code != "standby" or late:
                        text = str(error).removeprefix(f"{leader.endpoint}: ")
                        raise RefusedError(text, error.code) from error
                except RequestError as error:
                    self._leader = None
                    # An order may have been taken though nobody heard so: it is not repeated.
                    if late or isinstance(envelope, Order):
                        raise OperatorError(
                            f"{leader.node_id}: {error}; does it run (headwater-registry nodes)? "
                            "Look what became of the order (headwater-balancer status)"
                        ) from error
            time.sleep(_AGAIN_S)

    def state(self) -> dict[str, Any]:
        """What the leading balancer says of itself."""
        answer = self.ask(BalanceRequest())
        assert isinstance(answer, BalanceState)
        return answer.state

    # Orders

    def order(
        self,
        order: str,
        values: tuple[str, ...] = (),
        *,
        dry_run: bool = False,
        yes: bool = True,
        follow: bool = True,
        done: str = "",
        already_is_fine: bool = False,
        say: bool = True,
    ) -> int:
        """Show what an order would do, ask where somebody can answer, order it and follow its moves; returns the exit status.
        `done`: what to say when it is kept. `already_is_fine`: what is done already is no error.
        Without `say` no JSON is printed."""
        try:
            planned = self._ask(Order(order, list(values), dry_run=True))
        except RefusedError as error:
            if error.code == "already" and already_is_fine and not dry_run:
                return 0
            raise OperatorError(str(error)) from error
        assert isinstance(planned, Ordered)
        if not self.as_json:
            tables.print_plan(planned, "no group moves" if dry_run or order == "rebalance" else "")
        if dry_run or (order == "rebalance" and not planned.moves):
            self._say(order, values, planned, [], dry_run)
            return 0
        asking = not yes and not self.as_json and sys.stdin.isatty() and sys.stdout.isatty()
        if planned.moves and asking and not click.confirm(f"{order}: move {_groups(len(planned.moves))}?"):
            click.echo("nothing was changed")
            return _FAILED
        agreed = [row[:3] for row in planned.moves] if order == "rebalance" else []
        answer = self.ask(Order(order, list(values), moves=agreed))
        assert isinstance(answer, Ordered)
        if done and not self.as_json:
            click.echo(done)
        rows: list[list[Any]] = []
        if answer.job and follow:
            rows = self._follow(answer)
        if say:
            self._say(order, values, answer, rows, dry_run)
        return self._tell_failures(rows)

    def _say(
        self, order: str, values: tuple[str, ...], answer: Ordered, rows: list[list[Any]], dry_run: bool
    ) -> None:
        if self.as_json:
            click.echo(json.dumps(tables.ordered_json(order, list(values), answer, rows, dry_run)))

    def _tell_failures(self, rows: list[list[Any]]) -> int:
        failed = [row for row in rows if row[3] in ("failed", "dropped")]
        if not self.as_json and rows:
            click.echo(
                f"{_groups(len(rows) - len(failed))} moved" + (f", {len(failed)} not" if failed else "")
            )
            for row in failed[:10]:
                click.echo(f"{row[0]} stays on {row[1]}: {row[4]}", err=True)
            if len(failed) > 10:
                click.echo(f"and {len(failed) - 10} more", err=True)
        return _FAILED if failed else 0

    # Following

    def _follow(self, answer: Ordered) -> list[list[Any]]:
        """Progress of a job until nothing of it waits or moves; its rows."""
        rows = [[*row[:3], "waiting", ""] for row in answer.moves]
        with self._bar("moving", len(rows)) as show:
            while True:
                try:
                    progress = self._ask(ProgressRequest(answer.job))
                    assert isinstance(progress, Progress)
                    rows = progress.rows
                except (RefusedError, OperatorError) as error:
                    # Another balancer leads, or it was started again: the table tells what was done.
                    return self._as_in_table(rows, str(error))
                open_rows = [row for row in rows if row[3] in ("waiting", "moving")]
                show(len(rows) - len(open_rows))
                if not open_rows:
                    return rows
                time.sleep(_AGAIN_S)

    def _as_in_table(self, rows: list[list[Any]], why: str) -> list[list[Any]]:
        owners = {row[0]: row[1] for row in self.snapshot().groups}
        return [
            row
            if row[3] not in ("waiting", "moving")
            else [*row[:3], "moved", ""]
            if owners.get(row[0]) == row[2]
            else [*row[:3], "dropped", f"the balancer that was to move it is not in charge any more ({why})"]
            for row in rows
        ]

    def wait_drained(self, origin: str) -> int:
        """Follow a drain until the origin has no group; returns the exit status."""
        at_first = left = len(self._groups_of(origin))
        text, stuck_since = "", time.monotonic()
        with self._bar(f"draining {origin}", at_first) as show:
            while left:
                time.sleep(_AGAIN_S)
                now_left = len(self._groups_of(origin))
                if now_left < left:
                    stuck_since = time.monotonic()
                left = now_left
                show(max(0, at_first - left))
                try:
                    state = self.state()
                except OperatorError as error:
                    text, moving = str(error), False
                else:
                    if origin not in state["rules"]["drained"]:
                        text = f"{origin} is not drained any more: somebody has ordered undrain"
                        break
                    text = "; ".join(note for note in state["notes"] if f" on {origin}:" in note)
                    moving = any(row[1] == origin for row in state["moving"]) and not text
                if left and not moving and time.monotonic() - stuck_since > _STUCK_S:
                    text = text or "its groups do not move; see the balancer's and its log"
                    break
        if self.as_json:
            click.echo(
                json.dumps(
                    {"origin": origin, "empty": not left, "groups": left, "reason": text if left else ""}
                )
            )
        elif left:
            click.echo(f"{origin} still has {_groups(left)}: {text}", err=True)
        else:
            click.echo(
                f"{origin} has no group any more, and gets none until: headwater-balancer undrain {origin}"
            )
        return _FAILED if left else 0

    def _groups_of(self, origin: str) -> list[str]:
        return [row[0] for row in self.snapshot().groups if row[1] == origin]

    def _bar(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return progress_bar(what, total, _INTERRUPTED, wanted=not self.as_json)


def _groups(count: int) -> str:
    return "1 group" if count == 1 else f"{count} groups"
