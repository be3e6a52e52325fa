"""The origin: users of SharedObjects go on over another edge, which was told of some commits before it had them: what they hear,
and in which order. No sockets."""

from typing import Any

import pytest
from headwater_amf import amf0
from headwater_rtmp.shared_object import Event, EventType
from support.object_bench import DELETE, SEND, SET, USE
from support.object_cast import Cast
from support.resuming_edges import Reader
from support.taking_edges import TakingEdge

BOARD = ("board", False)


def listen(user: Reader) -> list[Any]:
    """What a user hears from here on."""
    heard: list[Any] = []
    take = user._event

    def hear(event: Event) -> None:
        kind = EventType(event.type).name
        if event.type == EventType.SEND_MESSAGE:
            heard.append((kind, amf0.decode_all(event.value or b"")[1]))
        elif event.type == EventType.CHANGE:
            heard.append((kind, event.key, amf0.decode(event.value or b"")[0]))
        else:
            heard.append((kind, event.key))
        take(event)

    user._event = hear  # type: ignore[method-assign]
    return heard


class Taking:
    """The first user goes to a third edge, which knows the object by a user of its own."""

    def __init__(self) -> None:
        self.cast = Cast()
        self.edge = TakingEdge("edge-3", fence=7)
        self.edge.connect(self.cast.bench.origin, self.cast.bench.epoch)
        self.cast.edges.append(self.edge)
        self.other = self.edge.join(9)
        self.cast.quiet()
        self.other.ask("board", (USE,))
        self.cast.quiet()
        self.user = self.cast.users[0]

    def stored(self) -> tuple[int, int]:
        """What the user has been told until now."""
        return self.user.edge.objects[BOARD].member_state(self.user.number)

    def take(self, told: tuple[int, int]) -> list[Any]:
        """From here on the new edge has the user."""
        self.edge.restore(self.user, {BOARD: told})
        return listen(self.user)

    def attach(self) -> None:
        """It goes on; its former edge is dead by now."""
        self.cast.edges[0].cut()
        self.edge.attach(self.user)
        self.cast.quiet()


@pytest.fixture
def taking() -> Taking:
    return Taking()


@pytest.mark.parametrize("covered", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_who_goes_on_is_answered_though_its_edge_knows_nothing_of_its_requests(
    taking: Taking, covered: bool, before: bool
) -> None:
    """The new edge hears of the commits `before` it has the user, or behind that. One that was slow has all messages and answers,
    but not all changes: what it was told is no version that ever was (`covered`)."""
    cast, user = taking.cast, taking.user
    user.ask("board", (SET, "x", 1.0))
    cast.quiet()
    version, count = taking.stored()
    told = (version if covered else 0, count)
    heard: list[Any] = []
    if not before:
        heard = taking.take(told)
    # As its former edge has passed it on.
    user.edge = cast.edges[0]
    user.ask("board", (SET, "x", 2.0), (SEND, "hear", 3.0))
    cast.users[3].ask("board", (SET, "y", 4.0))
    cast.commit()
    taking.edge.deliver()
    user.edge = taking.edge
    if before:
        heard = taking.take(told)
    taking.attach()
    assert heard[:3] == [("SUCCESS", "x"), ("SEND_MESSAGE", 3.0), ("CHANGE", "y", 4.0)]
    assert [event for event in heard if event[0] == "SEND_MESSAGE"] == [("SEND_MESSAGE", 3.0)]
    assert (user.asked, user.slots) == ({"x": []}, {"x": 2.0, "y": 4.0})
    assert bool(heard[3:]) is not covered
    # From here on it is as any other.
    heard.clear()
    cast.users[2].ask("board", (SET, "y", 5.0))
    cast.quiet()
    assert heard == [("CHANGE", "y", 5.0)]


def test_a_slot_that_is_told_between_commits_is_as_it_was_there(taking: Taking) -> None:
    cast, user, other = taking.cast, taking.user, taking.cast.users[2]
    other.ask("board", (SET, "y", 1.0))
    cast.quiet()
    heard = taking.take(taking.stored())
    user.edge = cast.edges[0]
    other.ask("board", (DELETE, "y"))
    # In vain: it hears what the slot is; that is stored with the change behind it.
    user.ask("board", (DELETE, "y"), (SET, "x", 2.0))
    other.ask("board", (SET, "y", 3.0))
    cast.commit()
    taking.edge.deliver()
    user.edge = taking.edge
    taking.attach()
    assert heard == [("REMOVE", "y"), ("SUCCESS", "x"), ("REMOVE", "y"), ("CHANGE", "y", 3.0)]
