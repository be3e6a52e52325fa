"""Members of SharedObjects of an edge that only remember, and an object with its origin's version."""

from headwater_amf import amf0
from headwater_edge.counters import Counters
from headwater_edge.objects import ObjectFanout
from headwater_rtmp.shared_object import SharedObjectMessage, decode_shared_object
from headwater_rtmp.slots import Slots

from support.edge import CHUNK_SIZE, messages_in

CHANGE, SUCCESS, SEND, STATUS, CLEAR, REMOVE = 4, 5, 6, 7, 8, 9
USED = 11
DENIED = (STATUS, "SharedObject.NoWriteAccess")
NULL = b"\x05"


def value(number: float) -> bytes:
    return amf0.encode(number)


class FakeClient:
    """A member. While `objects_full` its queue is over the limit; something is always queued. `holds`: as RTMPT clients do. One
    that `ends` is closed by what is queued next, as that is too much."""

    def __init__(self, session: int, amf3: bool = False, holds: bool = False) -> None:
        self.session, self.amf3, self.holds = session, amf3, holds
        self.objects_full = self.closed = False
        self.outbox = object()
        self.objects: dict[ObjectFanout, int] = {}
        self.behind: dict[ObjectFanout, int] | None = None
        self.received = b""
        self.pieces: list[bytes] = []
        self.ends = False

    def enqueue(self, data: bytes) -> None:
        if self.closed:
            return
        self.received += data
        self.pieces.append(data)
        if self.ends:
            self.closed = True
            objects, self.objects, self.behind = self.objects, {}, None
            for shared_object, number in objects.items():
                shared_object.leave(number)

    def drain(self) -> None:
        self.objects_full = False
        behind, self.behind = self.behind or {}, None
        for shared_object, number in behind.items():
            shared_object.catch_up(number, self)  # type: ignore[arg-type]  # all that it needs of a Client

    def messages(self, chunk_size: int = CHUNK_SIZE) -> list[SharedObjectMessage]:
        data, self.received = self.received, b""
        messages = messages_in(data, chunk_size)
        assert all(message.type_id == (16 if self.amf3 else 19) for message in messages)
        return [decode_shared_object(message) for message in messages]

    def got(self, chunk_size: int = CHUNK_SIZE) -> list[tuple[int, str | None, bytes | None]]:
        """The events since the last time."""
        return [(e.type, e.key, e.value) for message in self.messages(chunk_size) for e in message.events]


class Board:
    """An object with members and its origin's version. Unless it `gathers`, each commit is told at once."""

    def __init__(self, name: str = "board", gathers: bool = False) -> None:
        self.counters = Counters()
        self.gathers = gathers
        self.fanout = ObjectFanout(name, False, Slots(), 0, CHUNK_SIZE, self.counters)
        self.version = self.events = 0
        self._sessions = 0

    def join(self, amf3: bool = False, holds: bool = False) -> FakeClient:
        self._sessions += 1
        client = FakeClient(self._sessions, amf3, holds)
        self.rejoin(client)
        client.received = b""
        return client

    def rejoin(self, client: FakeClient, since: int = -1) -> None:
        client.objects[self.fanout] = client.session
        self.fanout.join(client.session, client, since)  # type: ignore[arg-type]  # all that it needs of a Client

    def commit(self, *events: tuple[int, str, bytes], by: FakeClient | None = None) -> None:
        self.lose(*events)
        assert self.fanout.update(self.version, self.events, by.session if by is not None else 0, events)
        if not self.gathers:
            self.fanout.flush()

    def lose(self, *events: tuple[int, str, bytes]) -> None:
        """A commit that does not come here."""
        self.version += any(kind != SEND for kind, _, _ in events)
        self.events += 1
