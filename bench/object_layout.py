"""Who uses which SharedObject in a load of changes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.sampling import sampled_numbers


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

    def renamed(self, scope: str) -> "ClientSpec":
        """The same in another scope."""
        return replace(self, scope=scope)


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """A load. `window`: messages that a requester has unanswered at a time when it sends as fast as it is answered."""

    name: str
    about: str
    window: int
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


def large_groups(objects: int = 5, members: int = 200) -> list[ClientSpec]:
    """Few objects with many members each, one of which changes it: the edge has most of the work."""
    return [
        ClientSpec(0, f"large{number}", (number,), 0 if member == 0 else None)
        for number in range(objects)
        for member in range(members)
    ]


def one_object(edges: int = 2, requesters: int = 6) -> list[ClientSpec]:
    """One object whose few members, on every edge as many, all change it: what one object can bear."""
    return [ClientSpec(number % edges, "one", (0,), number) for number in range(edges * requesters)]


def sampled_clients(clients: Sequence[ClientSpec], sampled: int = 50) -> set[int]:
    """Indexes of the clients that take latencies: of those that see others' changes, some, spread evenly."""
    requesters = Counter(client.objects[0] for client in clients if client.requester is not None)
    seeing = [
        index
        for index, client in enumerate(clients)
        if client.requester is None or requesters[client.objects[0]] > 1
    ]
    return {seeing[number] for number in sampled_numbers(len(seeing), sampled)}


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
    # Flash sends an object's next changes when the last are answered: a window of 1. The others have fewer requesters.
    ObjectShape("own", "200 objects, a requester each", 1, own_objects),
    ObjectShape("large", "5 objects of 200 members", 2, large_groups),
    ObjectShape("one", "1 object, 6 requesters on each of 2 edges", 8, one_object),
)
