"""The registry process: requests gather for a tick, change the table together, are committed in one transaction beside the
loop, and only then is anybody told: first the feed, then whoever asked.

One greenlet (`work`) owns the table, so what it holds between ticks is what is committed.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event
from headwater_bus.control import (
    Changed,
    EpochSeen,
    Grant,
    Health,
    HealthRequest,
    Leave,
    Refused,
    Register,
    Registered,
    Release,
    Renew,
    Snapshot,
    Subscribe,
)
from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig
from headwater_bus.requests import BindError, Caller, RefusedError, RequestError, ask
from headwater_bus.security import SecurityError
from headwater_bus.store_thread import StoreThread
from headwater_bus.view import NodeInfo
from headwater_store import Records, StoreError, open_records, shown_url

from headwater_registry.config import RegistryConfig
from headwater_registry.connections import Connections
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
_PROBE_S = 0.5
"""So long a node has to say that it lives, when another process registers with its name."""
MAX_WAITING = 10_000
"""Requests that wait for a commit. More are refused; nodes ask again."""


class ServeError(Exception):
    """The registry cannot begin; the text is for the operator."""


class Registry:
    """The registry on a node. `start()` binds and begins; `node.run()` ends it."""

    def __init__(self, node: Node, config: RegistryConfig, records: Records) -> None:
        self.node = node
        self.table: Table = load_table(records, config.lease_ms / 1000, time.monotonic())
        self.feed, self.seq = secrets.token_hex(8), 0
        self._config, self._records = config, records
        self._connections = Connections()
        self._probing: dict[str, Register] = {}
        self._waiting: list[tuple[Caller, Any]] = []
        self._wake = Event()
        # One thread: commits and the close come in the order they were asked for.
        self._disk = StoreThread()
        self._loads_due = self._expire_from = 0.0
        self._commits = self._failed_commits = 0
        self._slowest_commit_ms = 0.0
        self._apply: dict[type, Callable[[Caller, Any, float], tuple[Any, Changes]]] = {
            Register: self._register,
            Renew: self._renew,
            Leave: lambda caller, message, now: self.table.leave(message),
            Grant: lambda caller, message, now: self.table.grant(message),
            Release: self._release,
            EpochSeen: self._epoch_seen,
        }
        self.server = node.serve(dict.fromkeys([*self._apply, Subscribe], self._take))
        node.health_provider = self.health

    def start(self) -> str:
        """Bind and begin; returns the endpoint. Raises ServeError."""
        try:
            endpoint = self.server.bind(self._config.endpoint)
            # It is a node like the others, and asks itself as they do.
            self.node.config = replace(
                self.node.config, registries=(endpoint,), registry_node=self.node.node_id
            )
            self.node.start(endpoint)
        except (BindError, SecurityError) as error:
            raise ServeError(
                f"{error}; is another registry running? Stop it, or give another --base-port"
                if isinstance(error, BindError)
                else str(error)
            ) from error
        self.node.spawn("registry-work", self.work)
        return endpoint

    def close(self) -> None:
        """After the node was closed: let go of the store."""
        self._disk.call(self._records.close)

    # Requests

    def _take(self, caller: Caller, message: Any) -> Refused | None:
        refused = refusal(caller.user, message)
        if refused is not None:
            _log.warning("request refused", user=caller.user, reason=refused.text)
            return refused
        if len(self._waiting) >= MAX_WAITING:
            return Refused("busy", f"{MAX_WAITING} requests wait here, ask again")
        rival = self.table.rival(message) if isinstance(message, Register) else None
        if rival is not None and isinstance(rival.meta.get("control"), str):
            if message.node_id in self._probing:
                return Refused("busy", f"{message.node_id} registers from elsewhere, too; ask again")
            self._probing[message.node_id] = message
            gevent.spawn(self._probe, caller, message, rival)
            return None
        self._queue(caller, message)
        return None

    def _queue(self, caller: Caller, message: Any) -> None:
        self._waiting.append((caller, message))
        self._wake.set()

    def _probe(self, caller: Caller, message: Register, rival: NodeInfo) -> None:
        """Greenlet: another process has the name that a node registers with. If it lives, it keeps it; otherwise the name is
        `_probing` until the table has changed, so that a third one cannot take it for the dead one's."""
        node_id, control = message.node_id, str(rival.meta["control"])
        try:
            answer = ask(self.node.context, self.node.security, control, node_id, HealthRequest(), _PROBE_S)
            lives = isinstance(answer, Health) and answer.state.get("boot") == rival.boot
        except RefusedError:
            lives = True  # It has no answer, but is there.
        except (RequestError, SecurityError):
            lives = False
        except Exception as error:
            _log.error("node not probed", node=node_id, error=repr(error))
            lives = True
        if not lives:
            self._queue(caller, message)
            return
        del self._probing[node_id]
        text = f"{node_id} is here already, at {control}; give this one another --node-id, or stop that one"
        _log.warning("node refused", node=node_id, reason=text)
        self.server.answer(caller, Refused("taken", text))

    def _register(self, caller: Caller, message: Register, now: float) -> tuple[Any, Changes]:
        if self._probing.get(message.node_id) is message:
            del self._probing[message.node_id]
        answer, changes = self.table.register(message, now, int(time.time()))
        if isinstance(answer, Registered):
            self._connections.registered(message.node_id, caller.identity)
            if changes:
                _log.info(
                    "node", node=message.node_id, endpoint=message.endpoint or "-", capacity=message.capacity
                )
        else:
            _log.warning("node refused", node=message.node_id[:64], reason=answer.text)
        return answer, changes

    def _renew(self, caller: Caller, message: Renew, now: float) -> tuple[Any, Changes]:
        if self._connections.node_at(caller.identity) != message.node_id:
            # It has reconnected, to this registry or to a new one: its subscription went with the old connection.
            return Refused(
                "unknown-node", f"{message.node_id[:64]} has not registered on this connection"
            ), []
        return self.table.renew(message, now)

    def _release(self, caller: Caller, message: Release, now: float) -> tuple[Any, Changes]:
        return self.table.release(message, caller.user or self._connections.node_at(caller.identity))

    def _epoch_seen(self, caller: Caller, message: EpochSeen, now: float) -> tuple[Any, Changes]:
        owner, before = caller.user or self._connections.node_at(caller.identity), self.table.epoch
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

    # The tick

    def work(self) -> None:
        """Job: the tick, for ever."""
        due = time.monotonic() + _TICK_S
        while True:
            self._wake.wait(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            late_s = now - due
            if late_s > _LATE_S:
                _log.warning("held up; leases run on", late_s=round(late_s, 1))
                self.table.extend_leases(late_s)
            expiring = now >= due
            if expiring:
                due = now + _TICK_S
            self._tick(now, expiring)

    def _tick(self, now: float, expiring: bool) -> None:
        self._wake.clear()
        batch, self._waiting = self._waiting, []
        answers: list[tuple[Caller, Any, Any]] = []
        subscribing: list[Caller] = []
        changes: Changes = []
        for caller, message in batch:
            if isinstance(message, Subscribe):
                subscribing.append(caller)
                continue
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
        for caller in subscribing:
            self._connections.subscribe(caller.identity, now)
            self.server.answer(caller, self.snapshot())

    def _applied(self, caller: Caller, message: Any, now: float) -> tuple[Any, Changes]:
        """The answer to one request and its changes; nothing that somebody asks ends the registry."""
        kind = type(message)
        try:
            return self._apply[kind](caller, message, now)
        except Exception as error:
            _log.error("request failed", kind=kind.__name__, user=caller.user, error=repr(error))
            return Refused("internal", f"{kind.__name__}: internal error"), []

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
        if not changes:
            return
        for change in changes:
            if change[0] == "node-gone":
                self._connections.gone(change[1])
        self.seq += 1
        changed = Changed(self.feed, self.seq, changes)
        for identity in self._connections.subscribers(now):
            self.server.push(identity, changed)

    # Looking

    def snapshot(self) -> Snapshot:
        """All of it, as of the last change told."""
        nodes, groups = self.table.rows()
        return Snapshot(self.feed, self.seq, nodes, groups)

    def health(self) -> dict[str, Any]:
        """For HealthRequest."""
        return {
            "nodes": len(self.table.nodes),
            "groups": len(self.table.groups),
            "epoch": self.table.epoch,
            "feed": self.feed,
            "seq": self.seq,
            "commits": self._commits,
            "failed_commits": self._failed_commits,
            "slowest_commit_ms": round(self._slowest_commit_ms, 1),
        }


def run(node_config: NodeConfig, config: RegistryConfig) -> int:
    """Serve until a signal; returns the exit status. Raises StoreError or ServeError before anything is served."""
    records = open_records(config.store, "registry")
    node = Node(node_config)
    registry = Registry(node, config, records)
    try:
        endpoint = registry.start()
    except ServeError:
        node.close()
        registry.close()
        raise
    _log.info(
        "serving",
        endpoint=endpoint,
        store=shown_url(config.store),
        nodes=len(registry.table.nodes),
        groups=len(registry.table.groups),
    )
    status = node.run()
    registry.close()
    return status
