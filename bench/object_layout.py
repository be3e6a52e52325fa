"""Who uses which SharedObject in a load of changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

_GROUPED = 1000
_CHANGING = 10


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """One client: the edge and the scope it connects to, by number and name, and the objects that it uses, by number.
    `requester`: its number among those that change its one object; None for a member that only listens. `pace`: how many of its
    messages there are for one of a requester of pace 1, where all send at a rate."""

    edge: int
    scope: str
    objects: tuple[int, ...]
    requester: int | None = None
    pace: int = 1


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """A load. `window`: messages that a requester has unanswered at a time when it sends as fast as it is answered. `alone`: who
    has most of the work, and a core for itself where that is measured."""

    name: str
    about: str
    window: int
    alone: str
    clients: Callable[[], list[ClientSpec]]

    @property
    def edges(self) -> int:
        """How many edges it needs."""
        return 1 + max(client.edge for client in self.clients())


def own_objects(scopes: int = 4, objects: int = 50) -> list[ClientSpec]:
    """Each requester has an object of its own, and a listener in each scope uses all of that scope: few deliveries, so that the
    origin has most of the work."""
    made = []
    for scope in range(scopes):
        numbers = range(scope * objects, (scope + 1) * objects)
        made.append(ClientSpec(0, f"own{scope}", tuple(numbers)))
        made += [ClientSpec(0, f"own{scope}", (number,), 0) for number in numbers]
    return made


def one_object(edges: int = 2, requesters: int = 6) -> list[ClientSpec]:
    """One object whose few members, on every edge as many, all change it: what one object can bear."""
    return [ClientSpec(number % edges, "one", (0,), number) for number in range(edges * requesters)]


def groups(size: int) -> list[ClientSpec]:
    """Objects of `size` members each on one edge, about a thousand members in all; some of each, ten at most, change it."""
    return [
        ClientSpec(0, f"group{size}", (number,), member if member < min(size, _CHANGING) else None)
        for number in range(max(1, _GROUPED // size))
        for member in range(size)
    ]


def schedule(clients: Sequence[ClientSpec]) -> list[int]:
    """In which order requesters send, by index among the clients: each as often as its pace says, spread evenly."""
    requesters = [index for index, client in enumerate(clients) if client.requester is not None]
    places = [
        ((turn + number / len(requesters)) / clients[index].pace, index)
        for number, index in enumerate(requesters)
        for turn in range(clients[index].pace)
    ]
    return [index for _, index in sorted(places)]


SHAPES = (
    # Flash sends an object's next changes when the last are answered: a window of 1. Where there are fewer requesters they have
    # more under way, several hundred together, so that nobody waits for a flush or a commit. In `own` they stand for the
    # thousands that an origin has, so that it is the origin that sets the pace: with 8 it waited a tenth of the time.
    ObjectShape(
        "own", "200 objects, a requester each, with 16 messages under way", 16, "origin", own_objects
    ),
    ObjectShape("one", "1 object, 6 requesters on each of 2 edges", 32, "origin", one_object),
    ObjectShape("group2", "500 objects of 2 members, which both change it", 1, "origin", partial(groups, 2)),
    ObjectShape("group20", "50 objects of 20 members, 10 of which change it", 1, "edge", partial(groups, 20)),
    ObjectShape(
        "group200", "5 objects of 200 members, 10 of which change it", 8, "edge", partial(groups, 200)
    ),
    ObjectShape(
        "group2000", "1 object of 2000 members, 10 of which change it", 32, "edge", partial(groups, 2000)
    ),
)
