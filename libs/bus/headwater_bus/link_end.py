"""An end of a link, as those see it who send over it: it asks to be looked at when something is to be sent or is due."""

from collections.abc import Callable
from typing import Any

from headwater_bus.link_state import LinkState
from headwater_bus.rhythm import Alarm


class Link:
    """What both ends have in common: `send`, who the peer is, how much it has not acknowledged."""

    __slots__ = ("_alarm", "_look_at", "_looked_at_soon", "_marked", "data", "id", "state")

    def __init__(self, state: LinkState, link_id: bytes, look_at: "Callable[[Link], None]") -> None:
        """`look_at(link)` has the owner look at it at the end of the loop's turn: `outgoing(now)`, until it has a failure."""
        self.state = state
        self.id = link_id
        self.data: Any = None
        """Whatever the owner keeps for this link."""
        self._look_at = look_at
        self._looked_at_soon = self._marked = False
        self._alarm = Alarm(self.mark)

    @property
    def peer(self) -> str:
        """Node id of the other end; empty until the link is up."""
        return self.state.peer

    @property
    def boot(self) -> str:
        """Boot id of the other end."""
        return self.state.peer_boot

    @property
    def queued_bytes(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self.state.queued_bytes

    @property
    def position(self) -> int:
        """How many envelopes were sent."""
        return self.state.position

    @property
    def acknowledged(self) -> int:
        """How many of these the peer has taken: handed to its `on_batch`."""
        return self.state.acknowledged

    def end_batches_with(self, trailer: Callable[[], Any]) -> None:
        """Have the last envelope of each batch asked for, None: there is none. Who has something for it calls `mark`."""
        self.state.trailer = trailer

    @property
    def failure(self) -> str | None:
        """Why the link is over, or None."""
        return self.state.failure

    def send(self, envelope: Any) -> None:
        """Queue an envelope; it leaves with the next batch. Never blocks. Raises ValueError for a payload over 64 MiB."""
        self.state.send(envelope)
        if not self._marked:
            self.mark()

    def ask(self) -> None:
        """Have the peer say at once what it has taken, sooner than it would by itself."""
        self.state.ask()
        self.mark()

    def mark(self) -> None:
        """Have it say what it has to say, in this turn of the loop."""
        if not self._marked:
            self._marked = True
            self.look()

    def look(self) -> None:
        """Have it looked at in this turn of the loop, whether something is due, or when it will be."""
        if not self._looked_at_soon:
            self._looked_at_soon = True
            self._look_at(self)

    def outgoing(self, now: float) -> list[list[bytes]]:
        """It is looked at: messages to send now, each a list of frames. Where there is a failure then, it is over."""
        state, marked = self.state, self._marked
        self._looked_at_soon = self._marked = False
        state.listen(now)
        messages = state.outgoing(now) if marked or state.due(now) else []
        if state.failure is None:
            self._alarm.set(state.deadline())
        return messages

    def end(self, reason: str) -> None:
        """It is over, and nothing is due any more."""
        self.state.fail(reason)
        self._alarm.stop()
