"""A command line's connection to the feed: a mirror of the table that follows it, whatever becomes of the registry."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event
from headwater_bus.control import Changed, Refused, Snapshot, Subscribe
from headwater_bus.options import ClusterClient
from headwater_bus.requests import Requester, RequestError
from headwater_bus.security import SecurityError
from headwater_bus.view import ClusterView

from headwater_registry.connections import OBSERVER_S

_REQUEST_S = 1.0
_SILENCE_S = 3.0
"""The registry tells loads every second. When it is silent for so long it has gone, or forgotten this subscription."""
_LOOK_S = 0.25
_PAUSE_S = 0.1
"""Between two attempts: some fail at once."""


class Follower:
    """`view` follows while `follow` runs."""

    def __init__(self, client: ClusterClient) -> None:
        self.view = ClusterView()
        self._client = client
        self._gap = Event()
        self._heard_at = 0.0
        self._node_id = f"observer-{secrets.token_hex(4)}"

    @contextmanager
    def _connection(self, position: int) -> Iterator[Requester]:
        client = self._client
        requester = Requester(
            client.context,
            client.security,
            client.registries[position],
            client.registry_nodes[position],
            on_push=self._on_push,
            on_lost=self._gap.set,
        )
        try:
            yield requester
        finally:
            requester.close()

    def _on_push(self, envelope: Any) -> None:
        self._heard_at = time.monotonic()
        if isinstance(envelope, Refused) or (isinstance(envelope, Changed) and not self.view.apply(envelope)):
            # Refused: it leads no more, and says so again when it is asked.
            self._gap.set()

    def _on_snapshot(self, answer: Any) -> None:
        if isinstance(answer, Snapshot):
            self.view.replace(answer)
            self._gap.clear()

    def _wait(self, again_s: float) -> None:
        """Until a change is missing, nothing was heard for too long, or `again_s` are over."""
        began = self._heard_at = time.monotonic()
        while time.monotonic() < min(began + again_s, self._heard_at + _SILENCE_S):
            if self._gap.wait(_LOOK_S):
                return

    def follow(self, again_s: float = OBSERVER_S / 3) -> Iterator[str]:
        """Follow for ever. Yields a text when something happened to the connection: empty when a snapshot was taken, else why the
        registry is away. Between two the view changes by itself; `again_s` after each a snapshot is asked for again."""
        while True:
            failure = ""
            for position in range(len(self._client.registries)):
                try:
                    with self._connection(position) as registry:
                        while True:
                            self._subscribe(registry)
                            failure = ""
                            yield ""
                            self._wait(again_s)
                except (RequestError, SecurityError) as error:
                    failure = failure or str(error)
            yield failure
            gevent.sleep(_PAUSE_S)

    def _subscribe(self, registry: Requester) -> None:
        self._gap.clear()
        answer = registry.request(Subscribe(self._node_id), _REQUEST_S, then=self._on_snapshot)
        if not isinstance(answer, Snapshot):
            raise RequestError(answer.text if isinstance(answer, Refused) else type(answer).__name__)
