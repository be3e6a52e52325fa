"""The registry process: requests gather for a tick, change the table together, are committed in one transaction beside the
loop, and only then is anybody told: first the feed, then whoever asked.

One greenlet (`work`) owns the table, so what it holds between ticks is what is committed. It leads for as long as it surely holds
the records of the table, which one process at a time does; otherwise it stands by, and answers everybody that it does.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gevent.event import Event
from headwater_bus.control import (
    Changed,
    Done,
    EpochSeen,
    Grants,
    HandOver,
    Health,
    HealthRequest,
    History,
    HistoryRequest,
    Leave,
    PutSettings,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Snapshot,
    Subscribe,
    Suspect,
)
from headwater_bus.logs import get_log
from headwater_bus.node import Node
from headwater_bus.requests import BindError, Caller, RefusedError, RequestError, ask
from headwater_bus.security import SecurityError
from headwater_bus.store_thread import StoreThread
from headwater_bus.view import NodeInfo
from headwater_store import Records, StoreError

from headwater_registry.config import RegistryConfig
from headwater_registry.connections import Connections
from headwater_registry.deaths import Deaths, control_endpoint, listens
from headwater_registry.permission import refusal
from headwater_registry.saved import load_table, to_records
from headwater_registry.table import Changes, Table, Unsaved

_log = get_log("registry")
_TICK_S = 0.1
"""How often leases are looked at; requests do not wait for it."""
_LATE_S = 0.3
"""A tick that comes so late means that this process was held up, not that nodes are gone."""
_LOADS_S = 1.0
"""At most so often are the nodes' loads told."""
_STORE_RETRY_S = 1.0
_TAKE_AGAIN_S = 0.1
"""So often one that stands by tries to take the records."""
_SURE_TRIES = 3
_PROBE_S = 0.5
"""So long a node has to say that it lives, when another process registers with its name."""
MAX_WAITING = 10_000
"""Requests that wait for a commit. More are refused; nodes ask again."""
MAX_CHANGES = 5000
"""Rows in one message of the feed: of more at a time there are several messages."""


class ServeError(Exception):
    """The registry cannot begin; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class _Died:
    node: NodeInfo


@dataclass(frozen=True, slots=True)
class _Reached:
    node: NodeInfo


class Registry:
    """The registry on a node. `start()` binds and begins; `node.run()` ends it. `records` need not be held yet."""

    def __init__(self, node: Node, config: RegistryConfig, records: Records) -> None:
        self.node = node
        self.leading = False
        self.table = Table(config.lease_ms / 1000, now=time.monotonic())
        self.feed, self.seq = "", 0
        self._config, self._records = config, records
        self._connections = Connections()
        self._deaths = Deaths(
            lambda node: self._queue(None, _Died(node)), lambda node: self._queue(None, _Reached(node))
        )
        self._probing: dict[str, Register] = {}
        self._waiting: list[tuple[Caller | None, Any]] = []
        self._wake = Event()
        self._standby_because = "it has not begun yet"
        # One thread: commits and the close come in the order they were asked for.
        self._disk = StoreThread()
        self._loads_due = self._expire_from = 0.0
        self._commits = self._failed_commits = 0
        self._slowest_commit_ms = self._slowest_tick_ms = 0.0
        self._apply: dict[type, Callable[[Caller, Any, float], tuple[Any, Changes]]] = {
            Register: self._register,
            Renew: self._renew,
            Leave: lambda caller, message, now: self.table.leave(message),
            Grants: lambda caller, message, now: self.table.grants(message),
            HandOver: lambda caller, message, now: self.table.hand_over(message, self._owner(caller)),
            Release: lambda caller, message, now: self.table.release(message, self._owner(caller)),
            EpochSeen: self._epoch_seen,
            PutSettings: lambda caller, message, now: self.table.put_settings(message),
        }
        handlers: dict[type, Callable[[Caller, Any], Any]] = {
            **dict.fromkeys([*self._apply, Subscribe], self._take),
            Suspect: self._suspect,
            HistoryRequest: self._history,
        }
        self.server = node.serve(handlers, self._disconnected)
        node.health_provider = self.health

    def start(self) -> str:
        """Take the table, if nobody else has it, then bind and begin; returns the endpoint. Raises ServeError, and StoreError of
        a table that cannot be read."""
        self._try_to_lead()
        try:
            endpoint = self.server.bind(self._config.endpoint)
            # It is a node like the others, and asks the one that leads as they do.
            position, registries = self._config.position, list(self.node.config.registries)
            registries[position:] = [endpoint, *registries[position + 1 :]]
            self.node.config = replace(self.node.config, registries=tuple(registries))
            self.node.start(endpoint)
        except (BindError, SecurityError) as error:
            raise ServeError(
                f"{error}; is another registry running? Stop it, or give another --base-port"
                if isinstance(error, BindError)
                else str(error)
            ) from error
        self.node.spawn("registry-work", self.work)
        self.node.spawn("registry-deaths", self._deaths.run)
        return endpoint

    def close(self) -> None:
        """After the node was closed: let go of the store."""
        self._disk.call(self._records.close)

    # Requests

    def _refusal(self, caller: Caller, message: Any) -> Refused | None:
        if not self.leading:
            return self._standby()
        refused = refusal(caller.user, message)
        if refused is not None:
            _log.warning("request refused", user=caller.user, reason=refused.text)
        return refused

    def _standby(self) -> Refused:
        return Refused("standby", f"this registry does not lead: {self._standby_because}; ask another one")

    def _take(self, caller: Caller, message: Any) -> Refused | None:
        refused = self._refusal(caller, message)
        if refused is not None:
            return refused
        if len(self._waiting) >= MAX_WAITING:
            return Refused("busy", f"{MAX_WAITING} requests wait here, ask again")
        rival = self.table.rival(message) if isinstance(message, Register) else None
        if rival is not None and isinstance(rival.meta.get("control"), str):
            if message.node_id in self._probing:
                return Refused("busy", f"{message.node_id} registers from elsewhere, too; ask again")
            self._probing[message.node_id] = message
            self.node.spawn("registry-rival", self._probe, caller, message, rival)
            return None
        self._queue(caller, message)
        return None

    def _queue(self, caller: Caller | None, message: Any) -> None:
        self._waiting.append((caller, message))
        self._wake.set()

    def _suspect(self, caller: Caller, message: Suspect) -> Refused | Done:
        refused = self._refusal(caller, message)
        if refused is not None:
            return refused
        if self.table.is_here(message.node_id, message.boot):
            self._suspected(message.node_id)
        return Done()

    def _disconnected(self, connection: int) -> None:
        node_id = self._connections.disconnected(connection)
        if node_id is not None:
            self._suspected(node_id)

    def _suspected(self, node_id: str) -> None:
        if node_id in self.table.reachable:
            self._deaths.suspect(self.table.nodes[node_id])

    def _history(self, caller: Caller, message: HistoryRequest) -> Refused | History:
        return self._refusal(caller, message) or History(self.table.history.last(message.count))

    def _probe(self, caller: Caller, message: Register, rival: NodeInfo) -> None:
        """Greenlet: another process has the name that a node registers with. If it lives, it keeps it; otherwise the name is
        `_probing` until the table has changed, so that a third one cannot take it for the dead one's."""
        node_id, control = message.node_id, str(rival.meta["control"])
        try:
            lives = listens(control) is not False and self._answers(control, rival)
        except Exception as error:
            _log.error("node not probed", node=node_id, error=repr(error))
            lives = True
        if not lives:
            self._queue(caller, message)
            return
        self._probing.pop(node_id, None)
        text = f"{node_id} is here already, at {control}; give this one another --node-id, or stop that one"
        _log.warning("node refused", node=node_id, reason=text)
        self.server.answer(caller, Refused("taken", text))

    def _answers(self, control: str, node: NodeInfo) -> bool:
        try:
            answer = ask(
                self.node.context, self.node.security, control, node.node_id, HealthRequest(), _PROBE_S
            )
        except RefusedError:
            return True  # It has no answer, but is there.
        except (RequestError, SecurityError):
            return False
        return isinstance(answer, Health) and answer.state.get("boot") == node.boot

    def _register(self, caller: Caller, message: Register, now: float) -> tuple[Any, Changes]:
        if self._probing.get(message.node_id) is message:
            del self._probing[message.node_id]
        answer, changes = self.table.register(message, now)
        if not isinstance(answer, Registered):
            _log.warning("node refused", node=message.node_id[:64], reason=answer.text)
            return answer, changes
        other = self._connections.registered(message.node_id, caller.identity, caller.connection)
        if other is not None:
            self._suspected(other)
        if message.node_id not in self.table.reachable:
            self._deaths.reach(self.table.nodes[message.node_id])
        if changes:
            _log.info(
                "node", node=message.node_id, endpoint=message.endpoint or "-", capacity=message.capacity
            )
        return answer, changes

    def _renew(self, caller: Caller, message: Renew, now: float) -> tuple[Any, Changes]:
        if self._connections.node_at(caller.identity) != message.node_id:
            # It has reconnected, to this registry or to a new one: its subscription went with the old connection.
            return Refused(
                "unknown-node", f"{message.node_id[:64]} has not registered on this connection"
            ), []
        return self.table.renew(message, now)

    def _owner(self, caller: Caller) -> str | None:
        return caller.user or self._connections.node_at(caller.identity)

    def _epoch_seen(self, caller: Caller, message: EpochSeen, now: float) -> tuple[Any, Changes]:
        owner, before = self._owner(caller), self.table.epoch
        answer, changes = self.table.epoch_seen(message, owner)
        if self.table.epoch > before:
            _log.warning(
                "the table is behind the journals: it went back in time, or the store of journals is another cluster's; "
                "epochs go on above",
                group=message.group,
                origin=owner,
                seen=message.epoch,
                table=before,
            )
        return answer, changes

    # Leading

    def work(self) -> None:
        """Job: lead, or stand by, for ever."""
        while True:
            try:
                while not self._try_to_lead():
                    self._wake.wait(_TAKE_AGAIN_S)
                    self._wake.clear()
            except StoreError as error:
                self.node.stop("the table cannot be read", error=error)
                return
            self._lead()
            self._step_down()

    def _try_to_lead(self) -> bool:
        """Whether this registry leads; it begins to when it gets the records. Raises StoreError where they are not readable."""
        if self.leading:
            return True
        try:
            taken = self._disk.call(self._records.take)
            because = "another one does"
        except StoreError as error:
            taken, because = False, str(error)
        if not taken:
            if because != self._standby_because:
                _log.info("standing by", because=because)
            self._standby_because = because
            return False
        now = time.monotonic()
        self.table = self._disk.call(load_table, self._records, self._config.lease_ms / 1000, now)
        self.feed, self.seq = secrets.token_hex(8), 0
        self._connections = Connections()
        self._loads_due = self._expire_from = 0.0
        self.leading = True
        _log.info(
            "leading",
            nodes=len(self.table.nodes),
            groups=len(self.table.groups),
            orphans=len(self.table.orphans),
            epoch=self.table.epoch,
        )
        for node_id in self.table.reachable:
            self._suspected(node_id)
        return True

    def _holds(self) -> bool:
        """Whether this process surely has the records. After it was held up nobody may have taken them: that is asked."""
        for _ in range(_SURE_TRIES):
            if time.monotonic() < self._records.held_until:
                return True
            try:
                self._disk.call(self._records.write, {})
            except StoreError as error:
                self._standby_because = str(error)
                return False
        self._standby_because = "this machine, or the store, is too slow to keep its lease"
        return time.monotonic() < self._records.held_until

    def _step_down(self) -> None:
        """Somebody else may lead by now. Nobody is told anything of this table any more."""
        _log.warning("leads no more", because=self._standby_because)
        self.leading = False
        refused = self._standby()
        waiting, self._waiting = self._waiting, []
        for caller, _ in waiting:
            if caller is not None:
                self.server.answer(caller, refused)
        self.server.push(self._connections.subscribers(time.monotonic()), refused)
        self._connections = Connections()
        self._probing.clear()
        self._deaths.forget()

    # The tick

    def _lead(self) -> None:
        due = time.monotonic() + _TICK_S
        while True:
            self._wake.wait(max(0.0, due - time.monotonic()))
            if not self._holds():
                return
            now = time.monotonic()
            late_s = now - due
            if late_s > _LATE_S:
                _log.warning("held up; leases run on", late_s=round(late_s, 1))
                self.table.extend_leases(late_s)
            expiring = now >= due
            if expiring:
                due = now + _TICK_S
            self._tick(now, expiring)
            self._slowest_tick_ms = max(self._slowest_tick_ms, (time.monotonic() - now) * 1000)

    def _tick(self, now: float, expiring: bool) -> None:
        self._wake.clear()
        self.table.wall_s = int(time.time())
        batch, self._waiting = self._waiting, []
        answers: list[tuple[Caller, Any, Any]] = []
        subscribing: list[Caller] = []
        changes: Changes = []
        for caller, message in batch:
            if caller is None:
                changes += self._found_out(message)
            elif isinstance(message, Subscribe):
                subscribing.append(caller)
            else:
                answer, changed = self._applied(caller, message, now)
                answers.append((caller, message, answer))
                changes += changed
        if expiring and now >= self._expire_from:
            gone, changed = self.table.expire(now)
            changes += changed
            for node_id in gone:
                _log.warning("node gone: its lease ended", node=node_id)
        error = self._commit()
        if error is not None:
            self._expire_from = now + _STORE_RETRY_S
            changes, refused = [], Refused("store", error)
            answers = [
                (
                    caller,
                    message,
                    answer if isinstance(message, Renew) or isinstance(answer, Refused) else refused,
                )
                for caller, message, answer in answers
            ]
        if now >= self._loads_due:
            changes += self.table.loads()
            self._loads_due = now + _LOADS_S
        self._tell(changes, now)
        for caller, _, answer in answers:
            self.server.answer(caller, answer)
        if subscribing:
            for caller in subscribing:
                self._connections.subscribe(caller.identity, now)
            self.server.answer_all(subscribing, self.snapshot())

    def _applied(self, caller: Caller, message: Any, now: float) -> tuple[Any, Changes]:
        """The answer to one request and its changes; nothing that somebody asks ends the registry."""
        kind = type(message)
        try:
            return self._apply[kind](caller, message, now)
        except Exception as error:
            _log.error("request failed", kind=kind.__name__, user=caller.user, error=repr(error))
            return Refused("internal", f"{kind.__name__}: internal error"), []

    def _found_out(self, found: _Died | _Reached) -> Changes:
        node = found.node
        if isinstance(found, _Reached):
            self.table.reached(node.node_id, node.boot)
            return []
        changes = self.table.died(node.node_id, node.boot)
        if changes:
            _log.warning(
                "node gone: nobody listens there any more", node=node.node_id, endpoint=control_endpoint(node)
            )
        return changes

    def _commit(self) -> str | None:
        """Make the table's changes last; on failure the table is as before, and the text says why."""
        unsaved = self.table.unsaved()
        if unsaved is None:
            return None
        began = time.monotonic()
        error = self._write(unsaved)
        self._slowest_commit_ms = max(self._slowest_commit_ms, (time.monotonic() - began) * 1000)
        if error is None:
            self._commits += 1
            self.table.saved()
        else:
            self._failed_commits += 1
            _log.error("change not committed, and refused", error=error)
            self.table.undo()
        return error

    def _write(self, unsaved: Unsaved) -> str | None:
        try:
            self._disk.call(lambda: self._records.write(*to_records(unsaved)))
        except StoreError as error:
            return str(error)
        except Exception as error:
            return f"internal error: {error!r}"
        return None

    def _tell(self, changes: Changes, now: float) -> None:
        for change in changes:
            if change[0] == "node-gone":
                self._connections.gone(change[1])
        for first in range(0, len(changes), MAX_CHANGES):
            self.seq += 1
            changed = Changed(self.feed, self.seq, changes[first : first + MAX_CHANGES])
            self.server.push(self._connections.subscribers(now), changed)

    # Looking

    def snapshot(self) -> Snapshot:
        """All of it, as of the last change told."""
        nodes, groups = self.table.rows()
        return Snapshot(self.feed, self.seq, nodes, groups, self.table.settings)

    def health(self) -> dict[str, Any]:
        """For HealthRequest."""
        return {
            "leading": self.leading,
            "nodes": len(self.table.nodes),
            "groups": len(self.table.groups),
            "orphans": len(self.table.orphans),
            "epoch": self.table.epoch,
            "feed": self.feed,
            "seq": self.seq,
            "commits": self._commits,
            "failed_commits": self._failed_commits,
            "slowest_commit_ms": round(self._slowest_commit_ms, 1),
            "slowest_tick_ms": round(self._slowest_tick_ms, 1),
        }
