"""What of a group is committed together."""

from typing import TYPE_CHECKING, Any

from gevent.event import Event

from headwater_origin.durable.journal import RowKind

if TYPE_CHECKING:
    from headwater_origin.durable.said import Said
    from headwater_origin.edge_port import EdgePort
    from headwater_origin.session import Session

_NUMBER = int(RowKind.NUMBER)


class Entry:
    """Rows that are committed together, and what waits for them."""

    __slots__ = ("again", "applied", "done", "number", "outputs", "rows", "said", "size_bytes", "waiters")

    def __init__(self) -> None:
        self.number = 0
        """Known when it is on its way."""
        self.rows: list[list[Any]] = []
        self.applied: dict[Session, int] = {}
        """The last message of each session that had effects here."""
        self.done: dict[Session, int] = {}
        """The last message of each session that had none and is done behind this entry."""
        self.outputs: list[tuple[EdgePort, Any, Session | None, Said | None]] = []
        self.said: list[Said] = []
        """What is in the rows of what is said."""
        self.again: dict[EdgePort, int] = {}
        """Edges that are told with it what was said with entries above this number, once more."""
        self.waiters: list[Event] = []
        self.size_bytes = 0

    def all_rows(self) -> list[list[Any]]:
        """The rows with one for each number."""
        numbers = [[_NUMBER, session.session_id, number] for session, number in self.applied.items()]
        return [*self.rows, *numbers]

    def waits_no_more(self) -> None:
        """For no session, that is."""
        for _, _, session, _ in self.outputs:
            if session is not None:
                session.waiting -= 1
        for sessions in (self.applied, self.done):
            for session in sessions:
                session.waiting -= 1
