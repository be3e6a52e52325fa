"""Live streams of a scope: one publisher, a cache, and each subscribed edge once.

A message of the publisher goes once to every edge that has a player, whatever their number. The order on a link is: StreamOpened,
the cache, then live messages; PlayStarted of a player follows what it starts from.
"""

from typing import TYPE_CHECKING

from headwater_bus.traffic import (
    PlayStarted,
    PlayStopped,
    PublishStarted,
    PublishStopped,
    StreamClosed,
    StreamMedia,
    StreamOpened,
    StreamReset,
)
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags, is_clear_data_frame, strip_set_data_frame
from headwater_rtmp.message import DATA, Message

from headwater_origin.edge_port import EdgePort

if TYPE_CHECKING:
    from headwater_origin.config import OriginConfig
    from headwater_origin.counters import Counters
    from headwater_origin.session import NetStream, Session


class Publication:
    """A message stream of a session that publishes. `number` is what its PublisherMedia carries on the publisher's link."""

    __slots__ = ("net_stream", "number", "session", "stream")

    def __init__(self, session: "Session", net_stream: "NetStream", stream: "Stream", number: int) -> None:
        self.session, self.net_stream, self.stream, self.number = session, net_stream, stream, number


class Subscription:
    """One edge that has players of a stream. While `dropping` it gets nothing until a keyframe finds its link drained."""

    __slots__ = ("dropped", "dropping", "edge", "headers_version", "messages_out", "number", "players")

    def __init__(self, edge: EdgePort, number: int) -> None:
        self.edge, self.number = edge, number
        self.players: dict[NetStream, Session] = {}
        self.dropping = False
        self.headers_version = 0
        self.messages_out = 0
        self.dropped = 0


class Stream:
    """A stream name of a scope, while somebody publishes or plays it."""

    __slots__ = (
        "_config",
        "_counters",
        "bytes_in",
        "cache",
        "messages_in",
        "name",
        "publication",
        "subscriptions",
    )

    def __init__(self, name: str, config: "OriginConfig", counters: "Counters") -> None:
        self.name = name
        self._config, self._counters = config, counters
        self.cache = GopCache(config.cache_bytes)
        self.publication: Publication | None = None
        self.subscriptions: dict[EdgePort, Subscription] = {}
        self.messages_in = 0
        self.bytes_in = 0

    @property
    def idle(self) -> bool:
        """Whether nobody publishes or plays it."""
        return self.publication is None and not self.subscriptions

    def players(self) -> "list[tuple[Session, NetStream]]":
        """Everyone who plays it."""
        return [
            (session, net_stream)
            for subscription in self.subscriptions.values()
            for net_stream, session in subscription.players.items()
        ]

    # The publisher

    def start_publishing(self, session: "Session", net_stream: "NetStream") -> None:
        """Make a session the publisher; its edge is told before the client is, so that no media is lost between."""
        edge = session.edge
        publication = Publication(session, net_stream, self, edge.next_number())
        self.publication = net_stream.publication = publication
        edge.publications[publication.number] = publication
        edge.link.send(PublishStarted(session.number, net_stream.id, publication.number, self.name))

    def stop_publishing(self, tell_publisher: bool) -> None:
        """End the publication: the cache is emptied here and on the edges, players stay."""
        publication, self.publication = self.publication, None
        if publication is None:
            return
        publication.net_stream.publication = None
        edge = publication.session.edge
        edge.publications.pop(publication.number, None)
        if tell_publisher:
            edge.link.send(PublishStopped(publication.session.number, publication.net_stream.id))
        self._empty()

    def _empty(self) -> None:
        self.cache.clear()
        for subscription in self.subscriptions.values():
            subscription.dropping = False
            subscription.headers_version = self.cache.headers_version
            subscription.edge.link.send(StreamReset(subscription.number))

    def media(self, number: int, message: Message) -> None:
        """Take one message of the publisher and pass it to every subscribed edge. `number` is the edge's count, 0 when it
        did not come as PublisherMedia."""
        self.messages_in += 1
        self.bytes_in += len(message.payload)
        self._counters.media_in += 1
        if message.type_id in DATA:
            if is_clear_data_frame(message):
                return
            message = strip_set_data_frame(message)
        flags = self.cache.add(message)
        limit = self._config.link_media_bytes
        for subscription in self.subscriptions.values():
            if subscription.dropping or subscription.edge.link.queued_bytes > limit:
                if not self._resume(subscription, flags):
                    continue
            else:
                subscription.headers_version = self.cache.headers_version
            self._send(subscription, number, message)

    def _resume(self, subscription: Subscription, flags: MediaFlags) -> bool:
        """Whether an edge that did not keep up gets this message. After a gap it first gets headers that it missed."""
        drained = subscription.edge.link.queued_bytes <= self._config.link_media_bytes // 2
        if not (drained and (flags & MediaFlags.KEYFRAME or not self.cache.has_video)):
            subscription.dropping = True
            subscription.dropped += 1
            self._counters.media_dropped += 1
            return False
        subscription.dropping = False
        if subscription.headers_version != self.cache.headers_version:
            subscription.headers_version = self.cache.headers_version
            for header in self.cache.headers():
                self._send(subscription, 0, header)
        return True

    def _send(self, subscription: Subscription, number: int, message: Message) -> None:
        subscription.messages_out += 1
        self._counters.media_out += 1
        subscription.edge.link.send(
            StreamMedia(subscription.number, number, message.type_id, message.timestamp, message.payload)
        )

    # Players

    def open_for(self, edge: EdgePort) -> Subscription:
        """Subscribe an edge, if it is not: it gets the cache."""
        subscription = self.subscriptions.get(edge)
        if subscription is None:
            subscription = self.subscriptions[edge] = Subscription(edge, edge.next_number())
            edge.link.send(StreamOpened(subscription.number, self.name))
            subscription.headers_version = self.cache.headers_version
            for message in self.cache.snapshot():
                self._send(subscription, 0, message)
        return subscription

    def add_player(self, session: "Session", net_stream: "NetStream") -> None:
        """Start a player from its edge's cache."""
        subscription = self.open_for(session.edge)
        subscription.players[net_stream] = session
        net_stream.playing = self
        session.group.reply(session, PlayStarted(session.number, net_stream.id, subscription.number))

    def remove_player(self, session: "Session", net_stream: "NetStream", tell_player: bool) -> None:
        """Stop a player; the edge of the last one is unsubscribed."""
        net_stream.playing = None
        edge = session.edge
        subscription = self.subscriptions.get(edge)
        if subscription is None or subscription.players.pop(net_stream, None) is None:
            return
        if tell_player:
            session.group.reply(session, PlayStopped(session.number, net_stream.id))
        if not subscription.players:
            del self.subscriptions[edge]
            # Behind what this player is told.
            session.group.reply(session, StreamClosed(subscription.number))

    def health(self) -> dict[str, object]:
        """Messages in, and out for each edge."""
        return {
            "publisher": self.publication.session.session_id if self.publication is not None else None,
            "messages_in": self.messages_in,
            "bytes_in": self.bytes_in,
            "edges": {
                edge.link.peer: {
                    "players": len(subscription.players),
                    "messages_out": subscription.messages_out,
                    "dropped": subscription.dropped,
                }
                for edge, subscription in self.subscriptions.items()
            },
        }
