"""Attaches that wait until the change feed tells of their group's epoch, or until their group is moved or has ended, each with
what its client has sent behind it."""

from collections.abc import Iterator
from typing import Any

from headwater_bus.traffic import Attach, SessionsGone

from headwater_origin.edge_port import EdgePort
from headwater_origin.sizes import envelope_bytes


class Waiting:
    """One of them, until `until`, in monotonic seconds."""

    __slots__ = ("_attaches", "attach", "later", "port", "size_bytes", "until")

    def __init__(
        self, attaches: "Attaches", port: EdgePort, attach: Attach | SessionsGone, until: float
    ) -> None:
        self._attaches, self.port, self.attach, self.until = attaches, port, attach, until
        self.later: list[Any] = []
        """What its edge has said about the session since, in order."""
        self.size_bytes = envelope_bytes(attach)

    def hold(self, envelope: Any) -> None:
        """Its turn comes behind the attach. Where there is no room the attach is going to be refused: then the edge sends all
        of it again."""
        if self._attaches.full:
            self.until = 0.0
        if self.until:
            self.later.append(envelope)
            size = envelope_bytes(envelope)
            self.size_bytes += size
            self._attaches.grow(size)


class Attaches:
    """See the module. They hold at most `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._by_group: dict[str, list[Waiting]] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_group.values()))

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return self._size_bytes > self._limit_bytes

    def grow(self, size: int) -> None:
        """One of them holds so many bytes more."""
        self._size_bytes += size

    def add(self, port: EdgePort, attach: Attach | SessionsGone, until: float) -> Waiting:
        """One more."""
        waiting = Waiting(self, port, attach, until)
        self._by_group.setdefault(attach.group, []).append(waiting)
        self._size_bytes += waiting.size_bytes
        if isinstance(attach, Attach):
            port.waiting[attach.session] = waiting
        return waiting

    def _left(self, waiting: Waiting) -> None:
        self._size_bytes -= waiting.size_bytes
        attach = waiting.attach
        if isinstance(attach, Attach) and waiting.port.waiting.get(attach.session) is waiting:
            del waiting.port.waiting[attach.session]

    def take(self, group: str) -> list[Waiting]:
        """All that wait for a group, in order; they wait no more."""
        taken = self._by_group.pop(group, [])
        for waiting in taken:
            self._left(waiting)
        return taken

    def drop(self, port: EdgePort, session: int | None = None) -> bool:
        """Forget those of a link, or the one of a session on it; returns whether there was one."""
        if session is None:
            return self._drop(waiting for waiting in self._all() if waiting.port is port)
        found = port.waiting.get(session)
        return found is not None and self._drop(iter((found,)))

    def late(self, now: float) -> list[Waiting]:
        """Those whose time is up; they wait no more."""
        late = [waiting for waiting in self._all() if waiting.until <= now]
        self._drop(iter(late))
        return late

    def clear(self) -> None:
        """Forget all of them."""
        self._drop(self._all())

    def _all(self) -> Iterator[Waiting]:
        return (waiting for group in list(self._by_group.values()) for waiting in list(group))

    def _drop(self, dropped: Iterator[Waiting]) -> bool:
        found = False
        for waiting in dropped:
            found = True
            name = waiting.attach.group
            group = self._by_group[name]
            group.remove(waiting)
            if not group:
                del self._by_group[name]
            self._left(waiting)
        return found
