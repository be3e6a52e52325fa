"""One edge that has players of a stream, at the stream's origin."""

from typing import TYPE_CHECKING

from headwater_bus.traffic import StreamReset

from headwater_origin.edge_port import EdgePort

if TYPE_CHECKING:
    from headwater_origin.session import Session
    from headwater_origin.streams.net_stream import NetStream


class Subscription:
    """One edge that has players of a stream. `have`: the last number that it has. While `waiting`, what it lacks has not come
    yet, and it gets nothing; while `dropping` it gets nothing until a keyframe finds its link drained."""

    __slots__ = (
        "dropped",
        "dropping",
        "edge",
        "have",
        "headers_version",
        "messages_out",
        "number",
        "players",
        "waiting",
    )

    def __init__(self, edge: EdgePort, number: int, have: int = 0) -> None:
        self.edge, self.number, self.have = edge, number, have
        self.players: dict[NetStream, Session] = {}
        self.dropping = self.waiting = False
        self.headers_version = 0
        self.messages_out = 0
        self.dropped = 0

    def reset(self) -> None:
        """It begins anew: behind what has gathered for it."""
        self.edge.media.flush()
        self.edge.link.send(StreamReset(self.number))

    def health(self) -> dict[str, int]:
        """Its players, and the messages that it got and did not get."""
        return {
            "players": len(self.players),
            "messages_out": self.messages_out,
            "dropped": self.dropped,
        }
