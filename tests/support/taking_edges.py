"""An edge that goes on with clients of another one, as with RTMPT, without sockets: see `resuming_edges`."""

from dataclasses import replace
from typing import Any

from headwater_bus import object_traffic
from headwater_edge.objects import ObjectFanout

from support.resuming_edges import Reader, ResumingEdge

Told = dict[tuple[str, bool], tuple[int, int]]
"""What a client was told of each object: version and count."""


class TakingEdge(ResumingEdge):
    """One of which each client has a fence."""

    holds = True

    def __init__(self, name: str, fence: int) -> None:
        super().__init__(name)
        self.fence = fence

    def restore(self, client: Reader, told: Told) -> None:
        """A client of another edge, as that one has stored it."""
        former, number = client.edge, client.number
        former.clients.pop(number, None)
        for fanout in former.objects.values():
            fanout.leave(number)
        client.edge = self
        self.clients[number] = client
        client.objects = {self.objects[key]: number for key in told}
        for key, has in told.items():
            self.objects[key].restore(number, client, has)  # type: ignore[arg-type]  # all that it needs of a Client

    def attach(self, client: Reader) -> None:
        """What the edge says of it now."""
        self.put(*self._attach(client))

    def _attach(self, client: Reader) -> list[Any]:
        attach, *kept = super()._attach(client)
        rows = [
            self._row(fanout, client.number)
            for fanout in self.objects.values()
            if client.number in fanout.members
        ]
        return [replace(attach, fence=self.fence, objects=rows), *kept]

    def _row(self, fanout: ObjectFanout, number: int) -> list[Any]:
        if not fanout.is_restored(number):
            return self._object(fanout, number)
        has = (fanout.slots.version, fanout.events)
        return [fanout.name, fanout.persistent, *has, *fanout.told(number), True]

    def _carry_out(self, envelope: Any) -> None:
        if isinstance(envelope, object_traffic.ObjectJoined) and envelope.resumed:
            fanout = self.by_number[envelope.shared_object]
            if envelope.session in fanout.members:
                fanout.let_out(envelope.session, envelope.since, envelope.told)
                return
        super()._carry_out(envelope)
