"""Users of SharedObjects on an origin without sockets, and what they and their edges are told."""

from typing import Any

from headwater_amf import amf0
from headwater_bus.codec import Codec
from headwater_bus.object_traffic import ObjectAnswer, ObjectOpened, ObjectUpdate
from headwater_bus.rows import pack_rows, unpack_rows
from headwater_bus.traffic import TRAFFIC, Attach
from headwater_origin import Application
from headwater_rtmp.shared_object import EventType

from support.origin_bench import Bench, FakeClient, FakeLink, settle

USE, RELEASE, SET, DELETE = (
    EventType.USE,
    EventType.RELEASE,
    EventType.REQUEST_CHANGE,
    EventType.REQUEST_REMOVE,
)
SEND, CLEAR = EventType.SEND_MESSAGE, EventType.REQUEST_CLEAR
CHANGED, REMOVED, CLEARED, SENT = 4, 9, 8, 6
DENIED = ("STATUS", "SharedObject.NoWriteAccess")
CONTENT = ("CONTENT",)
"""Clear and all slots, as the edge has them."""
FAILED = ("STATUS", "SharedObject.ObjectCreationFailed", "error")
NO_WRITE = (*DENIED, "error")
MIB = 1024 * 1024


def guest_attach(number: int, session_id: str, group: str, scope: str = "") -> Attach:
    """A guest comes to a group, or the application of `scope`."""
    address = "" if scope else "192.0.2.7"
    return Attach(
        number, session_id, group, 1, address, 0, False, 0, 0, 0, b"", [], [], [], payload=scope.encode()
    )


def slot(key: str) -> tuple[str, str]:
    """An answer: the slot as the edge has it."""
    return ("SLOT", key)


def rows(*made: tuple[Any, ...]) -> bytes:
    return pack_rows(made)


class Open(Application):
    allow_shared_objects = True
    allow_persistent_objects = True


class Reading(Application):
    """Clients read `board`, nothing else."""

    def on_start(self) -> None:
        self.board = self.shared_object("board")
        self.board.change({"x": 1.0, "y": "two"})


def user(
    bench: Bench, link: FakeLink, group: str = "app/room", name: str = "board", **how: Any
) -> FakeClient:
    """A client that uses an object; all that it and its edge were told is taken away."""
    client = bench.joined(link, group, **how)
    client.shared(name, (USE,))
    settle()
    link.take()
    return client


def updates(link: FakeLink) -> list[tuple[int, list[tuple[Any, ...]]]]:
    """Version and events, values decoded, of every update since the last time; nothing else may have been sent."""
    assert [type(envelope) for envelope in link.log] == [ObjectUpdate] * len(link.log)
    return [
        (
            envelope.version,
            [
                (kind, key, amf0.decode_all(value) if value else None, envelope.session)
                for kind, key, value in events_of(envelope)
            ],
        )
        for envelope in link.take()
    ]


def events_of(update: ObjectUpdate) -> list[list[Any]]:
    return unpack_rows(update.payload, int, str, bytes)


def own(client: FakeClient) -> list[tuple[Any, ...]]:
    """The one answer that is for this client alone, behind the update if there is one."""
    kinds = [type(envelope) for envelope in client.link.log]
    assert kinds in ([ObjectAnswer], [ObjectUpdate, ObjectAnswer])
    (answer,) = client.link.take(ObjectAnswer)
    client.take()
    assert answer.session == client.number
    words = {7: "STATUS", 5: "SUCCESS", 9: "SLOT", 8: "CONTENT"}
    return [
        (words[kind], text) if text or kind != 8 else CONTENT
        for kind, text in unpack_rows(answer.payload, int, str)
    ]


def refused(client: FakeClient) -> list[tuple[Any, ...]]:
    """The events of the one message to a client that does not use the object."""
    ((what, _, _, events),) = client.take()
    assert what == "object"
    return list(events)


def application(bench: Bench, group: str = "app/room") -> Any:
    """The application object of a group."""
    return bench.origin.groups[group].application


def content(bench: Bench, group: str = "app/room", name: str = "board") -> dict[str, bytes]:
    """What an edge that opens the object is told."""
    link = bench.edge()
    client = bench.joined(link, group)
    client.shared(name, (USE,))
    settle()
    (opened,) = link.take(ObjectOpened)
    return {key: value for key, value, _ in unpack_rows(opened.payload, str, bytes, int) if value}


def idle(bench: Bench, seconds: float, group: str = "app/room") -> None:
    """So much time passes for the objects of a group."""
    made = bench.origin.groups[group]
    made.objects.tick(made.clock() + seconds)


def link_bytes(envelopes: list[Any]) -> int:
    return sum(map(len, Codec(TRAFFIC).pack(envelopes)))


def filled(bench: Bench, total: int = 900_000) -> FakeClient:
    """A user, on an edge of its own, of an object with so much content."""
    client = user(bench, bench.edge())
    for number in range(total // 60_000):
        client.shared("board", (SET, f"big{number}", "b" * 59_900))
    client.link.take()
    return client


def refused_in(client: FakeClient) -> list[Any]:
    return list(next(told for told in client.take() if isinstance(told, tuple))[3])
