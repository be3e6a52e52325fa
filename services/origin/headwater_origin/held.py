"""What edges say about a group while it is being moved or stopped."""

from typing import TYPE_CHECKING, Any

from headwater_origin.sizes import envelope_bytes

if TYPE_CHECKING:
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.group import Group


class Held:
    """See the module. Over `limit_bytes` the session that says more is sent away: its edge attaches it again, wherever the
    group is by then, and sends what it has not been told to be done."""

    def __init__(self, group: "Group", limit_bytes: int) -> None:
        self._group, self._limit_bytes = group, limit_bytes
        self.envelopes: list[tuple[EdgePort, Any]] = []
        self._size_bytes = 0

    def add(self, port: "EdgePort", envelope: Any) -> None:
        """One more."""
        self._size_bytes += envelope_bytes(envelope)
        if self._size_bytes <= self._limit_bytes:
            self.envelopes.append((port, envelope))
            return
        session = port.sessions.get(envelope.session)
        if session is not None:
            self._group.bounce(session, "its group is being moved")
