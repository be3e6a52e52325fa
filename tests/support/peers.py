"""Nodes that tests play themselves, and services that run inside the test's process."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import zmq.green as zmq
from headwater_bus.control import (
    Assigned,
    Changed,
    Granted,
    Grants,
    Refused,
    Register,
    Registered,
    Renew,
    Snapshot,
    Subscribe,
)
from headwater_bus.node import Node, NodeConfig
from headwater_bus.requests import NoAnswerError, Requester
from headwater_bus.security import Security
from headwater_bus.view import ClusterView
from headwater_registry.config import RegistryConfig
from headwater_registry.service import Registry
from headwater_store import Records, open_records, sqlite_url

from support.waiting import TIME_FACTOR

ANSWER_S = 5.0 * TIME_FACTOR
_RENEW_S = 0.2
_APPS = ["live", "chat", "vip", "lost"]


class Peer:
    """A connection to a registry (or a balancer) that a test speaks on, as a node when `register` was called."""

    def __init__(self, endpoint: str, node_id: str = "origin-1", capacity: float = 1.0) -> None:
        self.node_id, self.capacity, self.boot = node_id, capacity, secrets.token_hex(4)
        self.view = ClusterView()
        self.load: dict[str, Any] = {}
        self.pushed: list[Any] = []
        self.refused_renewals: list[Any] = []
        self._requester = Requester(
            zmq.Context.instance(), Security.plain(), endpoint, "", on_push=self._push
        )
        self._renewing: gevent.Greenlet[..., Any] | None = None

    def _push(self, envelope: Any) -> None:
        self.pushed.append(envelope)
        if isinstance(envelope, Changed):
            self.view.apply(envelope)

    def ask(self, envelope: Any, timeout_s: float = ANSWER_S) -> Any:
        """One request."""
        return self._requester.request(envelope, timeout_s)

    def grant(self, group: str, origin: str) -> Any:
        """Have the registry give one group; Assigned, or Refused with the row's code."""
        answer = self.ask(Grants([[group, origin]]))
        if not isinstance(answer, Granted):
            return answer
        ((_, granted, epoch, code),) = answer.rows
        return Refused(code, f"{group}: {code}") if code else Assigned(group, granted, epoch)

    def register(self, endpoint: str = "tcp://127.0.0.1:9", **meta: Any) -> Any:
        """Register and subscribe; returns the answer to Register."""
        role = self.node_id.partition("-")[0]
        serves = {"apps": _APPS} if role == "origin" else {}
        answer = self.ask(
            Register(self.node_id, role, self.boot, endpoint, self.capacity, {**serves, **meta})
        )
        self.subscribe()
        return answer

    def subscribe(self) -> Snapshot:
        """Take the table; changes follow into `view`."""
        snapshot = self._requester.request(Subscribe(self.node_id), ANSWER_S, then=self._take)
        assert isinstance(snapshot, Snapshot)
        return snapshot

    def _take(self, answer: Any) -> None:
        if isinstance(answer, Snapshot):
            self.view.replace(answer)

    def keep(self, endpoint: str = "tcp://127.0.0.1:9", **meta: Any) -> "Peer":
        """Register, then renew as a node does, until `close`."""
        assert isinstance(self.register(endpoint, **meta), Registered)
        self._renewing = gevent.spawn(self._renew, endpoint, meta)
        return self

    def _renew(self, endpoint: str, meta: dict[str, Any]) -> None:
        while True:
            gevent.sleep(_RENEW_S)
            try:
                answer = self.ask(Renew(self.node_id, self.boot, self.load))
            except NoAnswerError:
                continue  # The registry is being started again, and the machine is busy.
            if not isinstance(answer, Registered):
                self.refused_renewals.append(answer)
                self.register(endpoint, **meta)

    def silent(self) -> None:
        """Renew no more; the connection stays."""
        if self._renewing is not None:
            self._renewing.kill()

    def close(self) -> None:
        """Go without a word."""
        self.silent()
        self._requester.close()


@contextmanager
def peers(endpoint: str, *node_ids: str, capacities: dict[str, float] | None = None) -> Iterator[list[Peer]]:
    """Nodes that stay registered until the block ends."""
    made = [Peer(endpoint, node_id, (capacities or {}).get(node_id, 1.0)) for node_id in node_ids]
    try:
        yield [peer.keep() for peer in made]
    finally:
        for peer in made:
            peer.close()


def node_config(node_id: str, folder: Path, registry: str = "tcp://127.0.0.1:1", **more: Any) -> NodeConfig:
    """The config of a node in this process."""
    role = node_id.partition("-")[0]
    return NodeConfig(node_id, role, (registry,), base_port=1935, data=folder, **more)


@contextmanager
def running_registry(
    folder: Path, records: Records | None = None, lease_ms: int = 3000, endpoint: str = "tcp://127.0.0.1:*"
) -> Iterator[tuple[Registry, str]]:
    """The registry service in this process, and its endpoint. It ends like a killed one: nobody is told."""
    node = Node(node_config("registry-1", folder, heartbeat_ms=lease_ms // 6))
    config = RegistryConfig(endpoint, sqlite_url(folder), lease_ms)
    registry = Registry(node, config, records or open_records(config.store, "registry"))
    try:
        yield registry, registry.start()
    finally:
        node.close()
        registry.close()
