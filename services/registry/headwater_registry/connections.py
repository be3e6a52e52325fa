"""Who is at the other end of which connection, and who gets the feed. Pure: the time is an argument."""

from collections.abc import Iterable

MAX_OBSERVERS = 128
"""Subscribers that are no registered nodes (command lines). One more replaces the one that was heard of longest ago."""
OBSERVER_S = 30.0
"""An observer that has not subscribed again for so long gets no more changes: nothing else tells that it is gone."""


class Connections:
    """Connections are ZeroMQ identities. A node has one; it is the one on which it registered last."""

    def __init__(self) -> None:
        self._by_node: dict[str, bytes] = {}
        self._nodes: dict[bytes, str] = {}
        self._numbers: dict[int, str] = {}
        self._subscribed: set[bytes] = set()
        self._observers: dict[bytes, float] = {}

    def registered(self, node_id: str, identity: bytes, number: int = -1) -> str | None:
        """A node registered here; what it had elsewhere is over. `number` of the connection for `disconnected`: where another
        node had it, that one's connection must be gone, and its name is returned."""
        former = self._numbers.get(number)
        if number >= 0:
            self._numbers[number] = node_id
        self._registered(node_id, identity)
        return former if former != node_id else None

    def disconnected(self, number: int) -> str | None:
        """A connection has gone: the node that had registered on it, if any."""
        return self._numbers.pop(number, None)

    def _registered(self, node_id: str, identity: bytes) -> None:
        if self._by_node.get(node_id) == identity:
            return
        self.gone(node_id)
        former = self._nodes.get(identity)
        if former is not None:
            self.gone(former)
        self._by_node[node_id], self._nodes[identity] = identity, node_id
        if self._observers.pop(identity, None) is not None:
            self._subscribed.add(identity)

    def node_at(self, identity: bytes) -> str | None:
        """Which node registered on this connection, if any."""
        return self._nodes.get(identity)

    def gone(self, node_id: str) -> None:
        """A node is not in the table any more, or elsewhere: it gets nothing."""
        identity = self._by_node.pop(node_id, None)
        if identity is not None:
            del self._nodes[identity]
            self._subscribed.discard(identity)

    def subscribe(self, identity: bytes, now: float) -> None:
        """Have this connection hear every change from now on."""
        if identity in self._nodes:
            self._subscribed.add(identity)
            return
        self._observers.pop(identity, None)
        if len(self._observers) >= MAX_OBSERVERS:
            del self._observers[next(iter(self._observers))]
        self._observers[identity] = now + OBSERVER_S

    def subscribers(self, now: float) -> Iterable[bytes]:
        """Whom to send a change."""
        for identity, until in list(self._observers.items()):
            if until > now:
                break  # In order of when they were heard of.
            del self._observers[identity]
        return [*self._subscribed, *self._observers]
