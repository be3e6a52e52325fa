"""Live streams of a scope: one publisher, a cache, and each subscribed edge once.

A message of the publisher goes once to every edge that has a player, whatever their number. The order on a link is: StreamOpened,
the cache, then live messages; PlayStarted of a player follows what it starts from.

Publishers and players that had the stream at another origin, or over another link, go on with it. The publisher's edge sends
what it has kept of the last seconds (its ring), with the numbers that the messages had; each edge gets what is above the last
number that it has. One that lacks more than the ring holds begins anew, at a keyframe behind its headers.
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
)
from headwater_rtmp.gop import GopCache
from headwater_rtmp.media import MediaFlags, inspect, is_clear_data_frame, strip_set_data_frame
from headwater_rtmp.message import DATA, Counted, Message

from headwater_origin.edge_port import EdgePort
from headwater_origin.streams.kept import Kept
from headwater_origin.streams.late_players import LatePlayers
from headwater_origin.streams.net_stream import NetStream, play_changed
from headwater_origin.streams.publication import Publication
from headwater_origin.streams.reserved import Reserved
from headwater_origin.streams.subscription import Subscription
from headwater_origin.streams.timeline import Timeline

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_KEPT_FACTOR = 2
"""What is kept for edges that come late takes so many times the bytes of the cache at most: as much as the rings of edges."""


class Stream:
    """A stream name of a scope, while somebody publishes or plays it, or is waited for."""

    __slots__ = (
        "_config",
        "_counters",
        "_first",
        "_group",
        "_kept",
        "_last_at",
        "_last_timestamp",
        "_load",
        "bytes_in",
        "cache",
        "due",
        "last",
        "late",
        "messages_in",
        "name",
        "publication",
        "reserved",
        "subscriptions",
        "timeline",
    )

    def __init__(self, name: str, group: "Group") -> None:
        self.name = name
        self._group, self._config, self._counters, self._load = (
            group,
            group.config,
            group.counters,
            group.load,
        )
        self.cache = GopCache(group.config.cache_bytes)
        self.publication: Publication | None = None
        self.reserved: Reserved | None = None
        """For whom its name is kept, whose publisher has gone without a goodbye."""
        self.timeline: Timeline | None = None
        """Of a publisher that has followed another one."""
        self._last_timestamp: int | None = None
        self._last_at = group.clock()
        """Of the last message, and when it came; without one, when the publication began."""
        self.subscriptions: dict[EdgePort, Subscription] = {}
        self._first = self.last = 0
        """The numbers of the first message that came of this publication, and of the last; 0: none has."""
        self._kept: Kept | None = None
        self.late = LatePlayers(self, group)
        """Those that another edge had."""
        self.due = 0.0
        """Until when its publisher is waited for, by players that had it somewhere else; 0: it is not."""
        self.messages_in = 0
        self.bytes_in = 0

    @property
    def idle(self) -> bool:
        """Whether nobody publishes or plays it, and it is kept for nobody."""
        return self.publication is None and self.reserved is None and not self.subscriptions

    def players(self) -> "list[tuple[Session, NetStream]]":
        """Everyone who plays it."""
        return [
            (session, net_stream)
            for subscription in self.subscriptions.values()
            for net_stream, session in subscription.players.items()
        ]

    # The publisher

    def start_publishing(self, session: "Session", net_stream: "NetStream", resumed: bool = False) -> None:
        """Make a session the publisher; its edge is told before the client is, so that no media is lost between. `resumed`: it is
        the publisher already, as players' edges know it. Where the name was reserved the stream goes on: in time, and for
        players at the first keyframe."""
        reserved, self.reserved = self.reserved, None
        if not resumed:
            last, last_at = self._last_timestamp, self._last_at
            self._forget_publication()
            if reserved is not None:
                self.timeline = Timeline(last, last_at)
                self._empty()
            elif self.late or any(
                subscription.have or subscription.waiting for subscription in self.subscriptions.values()
            ):
                self._empty()
        self.due = 0.0
        self.publication = net_stream.publication = self._ask(session, net_stream, resumed)

    def _ask(self, session: "Session", net_stream: "NetStream", resumed: bool) -> Publication:
        edge = session.edge
        publication = Publication(session, net_stream, self, edge.next_number(), resumed)
        edge.publications[publication.number] = publication
        started = PublishStarted(session.number, net_stream.id, publication.number, self.name, resumed)
        # As the answers to the client: not before its edge knows that it is attached, and not without what it was journaled with.
        session.group.reply(session, started)
        return publication

    def suspend_publishing(self) -> None:
        """The publisher's link is lost: its name is kept for it, and its players stay."""
        publication = self.publication
        if publication is not None:
            publication.release_numbers()
            publication.suspended = True

    def reserve(self, until: float) -> None:
        """The publisher has gone without a goodbye: its name is kept, and players and their edges are told nothing."""
        publication, self.publication = self.publication, None
        if publication is not None:
            publication.net_stream.publication = None
            publication.release_numbers()
            self.reserved = Reserved(publication.net_stream.proof, until)
            if not self.subscriptions:
                # Nobody needs what it has sent.
                self._empty()
                self.late.forget()

    def unreserve(self) -> "list[tuple[Session, NetStream]]":
        """Whom it was kept for does not come; returns the players."""
        self.reserved = None
        self._forget_publication()
        self._empty()
        return self.players()

    @property
    def silent_s(self) -> float:
        """For how long its publisher has sent nothing."""
        return self._group.clock() - self._last_at

    def silent(self) -> bool:
        """Whether its publisher is not there, or has sent nothing for long."""
        publication = self.publication
        if publication is None:
            return False
        return publication.suspended or self.silent_s >= self._config.publisher_silent_s

    def stop_publishing(self, tell_publisher: bool) -> None:
        """End the publication: the cache is emptied here and on the edges, players stay."""
        publication, self.publication = self.publication, None
        if publication is None:
            return
        publication.net_stream.publication = None
        publication.release_numbers()
        if tell_publisher:
            session = publication.session
            session.group.reply(session, PublishStopped(session.number, publication.net_stream.id))
        self._forget_publication()
        self._empty()

    def abandon(self) -> None:
        """The group ends here without a word."""
        if self.publication is not None:
            self.publication.release_numbers()

    def give_up(self) -> "list[tuple[Session, NetStream]]":
        """The publisher that players wait for does not come; returns these."""
        self.due = 0.0
        players = {
            net_stream: session
            for subscription in self.subscriptions.values()
            if subscription.waiting
            for net_stream, session in subscription.players.items()
        }
        players |= self.late.players()
        self._empty()
        return [(session, net_stream) for net_stream, session in players.items()]

    def _forget_publication(self) -> None:
        self._first = self.last = 0
        self.timeline, self._last_timestamp, self._last_at = None, None, self._group.clock()
        self._kept = None
        self.late.forget()

    def _empty(self) -> None:
        self.cache.clear()
        for subscription in self.subscriptions.values():
            subscription.dropping = subscription.waiting = False
            subscription.have = 0
            subscription.headers_version = self.cache.headers_version
            subscription.reset()
        self.late.start()

    # Media

    def header(self, message: Message) -> None:
        """A header that the publisher has sent before: for who joins, and for who begins anew. The others have it."""
        if self.timeline is not None:
            self._move(message)
        if message.type_id in DATA:
            message = strip_set_data_frame(message)
        self.cache.add(message)

    def _move(self, message: Message) -> None:
        timeline, publication = self.timeline, self.publication
        if timeline is not None and timeline.move(message, self._group.clock()) and publication is not None:
            # Another origin needs to know.
            publication.session.mark_state()

    def ring_begins(self, first: int) -> None:
        """What the publisher's edge has kept comes now, from this number on: every edge gets what it lacks of it."""
        publication = self.publication
        if publication is not None:
            publication.release_former()
        hole = first > self.last + 1
        if hole:
            # Behind what the cache has, and behind all that any edge has. What came without numbers is in the ring, too.
            headers = self.cache.headers()
            self.cache.clear()
            for header in headers:
                self.cache.add(header)
            self.late.forget()
        until = self._group.clock() + self._config.resume_grace_s
        self._kept = Kept(first, _KEPT_FACTOR * self._config.cache_bytes, until)
        for subscription in self.subscriptions.values():
            subscription.waiting = False
            if subscription.have + 1 < first and (hole or not self._catch_up(subscription)):
                self._begin_anew(subscription)

    def media(self, number: int, message: Message) -> None:
        """Take one message of the publisher and pass it to every subscribed edge that lacks it. `number` is the edge's count, 0
        when it did not come as PublisherMedia."""
        if self.timeline is not None:
            self._move(message)
        is_new = number == 0 or number > self.last
        if is_new:
            self._last_at = self._group.clock()
            if message.type_id not in DATA:
                self._last_timestamp = message.timestamp
            self.messages_in += 1
            self.bytes_in += len(message.payload)
            self._counters.media_in += 1
            if number:
                self.last = number
                self._first = self._first or number
        if message.type_id in DATA:
            if is_clear_data_frame(message):
                if is_new and number:
                    self.late.keep(number, None)
                return
            message = strip_set_data_frame(message)
        flags = self.cache.add(message) if is_new else inspect(message).flags
        if number and self._kept is not None:
            self._kept.add(number, message)
        if is_new and number:
            self.late.keep(number, message)
        limit = self._config.link_media_bytes
        for subscription in self.subscriptions.values():
            if subscription.waiting:
                continue
            if number:
                if number <= subscription.have:
                    continue
                subscription.have = number
            if subscription.dropping or subscription.edge.link.queued_bytes > limit:
                if not self._resume(subscription, flags):
                    continue
            else:
                subscription.headers_version = self.cache.headers_version
            self._send(subscription, number, message)
        if self.late:
            self.late.look()

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
        self._load.messages += 1
        self._load.bytes += len(message.payload)
        subscription.edge.media.send(
            StreamMedia(subscription.number, number, message.type_id, message.timestamp, message.payload)
        )

    # Players

    def open_for(self, edge: EdgePort) -> Subscription:
        """Subscribe an edge, if it is not: it gets the cache."""
        subscription = self.subscriptions.get(edge)
        if subscription is None:
            subscription = self._subscribe(edge, 0)
            self._open(subscription, -1)
            if self.publication is not None and self.publication.awaited and not self.last:
                subscription.waiting = True
            else:
                self._send_cache(subscription)
                # Whoever is to start from it is told so next.
                edge.media.flush()
        return subscription

    def _subscribe(self, edge: EdgePort, have: int) -> Subscription:
        subscription = self.subscriptions[edge] = Subscription(edge, edge.next_number(), have)
        return subscription

    def _open(self, subscription: Subscription, after: int) -> None:
        subscription.headers_version = self.cache.headers_version
        opened = StreamOpened(subscription.number, self.name, self._group.name, after)
        subscription.edge.link.send(opened)

    def _send_cache(self, subscription: Subscription) -> None:
        """Headers and what came since the keyframe. The last message says how far this goes."""
        messages = self.cache.snapshot()
        subscription.headers_version = self.cache.headers_version
        subscription.have = self.last
        for at, message in enumerate(messages, 1):
            self._send(subscription, self.last if at == len(messages) else 0, message)

    def _catch_up(self, subscription: Subscription) -> bool:
        """Send an edge all that it lacks, if that is here; returns whether it was, or is on its way with the ring."""
        have, kept = subscription.have, self._kept
        if have > self.last:
            return False
        if kept is not None and kept.first <= have + 1:
            for number, message in kept.behind(have):
                subscription.have = number
                self._send(subscription, number, message)
            return True
        cached = [
            message
            for message in self.cache.snapshot()
            if isinstance(message, Counted) and message.number > have
        ]
        if len(cached) != self.last - have:
            return False
        for message in cached:
            self._send(subscription, message.number, message)
        subscription.have = self.last
        return True

    def _begin_anew(self, subscription: Subscription) -> None:
        """An edge lacks what nobody has any more: it goes on at a keyframe, behind its headers."""
        subscription.reset()
        self._send_cache(subscription)
        subscription.dropping = not self.cache.has_start

    def add_player(self, session: "Session", net_stream: "NetStream") -> None:
        """Start a player from its edge's cache."""
        self._add(self.open_for(session.edge), session, net_stream)

    def _add(self, subscription: Subscription, session: "Session", net_stream: "NetStream") -> None:
        subscription.players[net_stream] = session
        net_stream.playing = self
        session.group.reply(session, PlayStarted(session.number, net_stream.id, subscription.number))

    def take_over_player(self, session: "Session", net_stream: "NetStream", have: int, edge_has: int) -> None:
        """A player goes on that another edge had, and that was told the stream up to message `have`. Its edge has it up to number
        `edge_has` (0: not at all), for others."""
        subscription = self._resume_for(session.edge, edge_has)
        subscription.players[net_stream] = session
        net_stream.playing = self
        self.late.take_over(session, net_stream, subscription, have)

    @property
    def expects_more(self) -> bool:
        """Whether the publisher may have yet to bring what edges have had."""
        publication = self.publication
        if publication is None:
            return self.reserved is None and self._group.gathers
        return publication.suspended or publication.awaited or self._kept is not None

    def resume_player(self, session: "Session", net_stream: "NetStream", have: int) -> None:
        """A player goes on, whose edge has the stream's messages up to number `have` (0: none)."""
        is_new = session.edge not in self.subscriptions
        subscription = self._resume_for(session.edge, have)
        if is_new and have <= 0:
            # Players that its edge has already do not wait for a keyframe, as new ones do.
            subscription.dropping = not subscription.waiting and not self.cache.has_start
        self._add(subscription, session, net_stream)
        if not net_stream.audio or not net_stream.video or net_stream.paused:
            session.group.reply(session, play_changed(session, net_stream))

    def _resume_for(self, edge: EdgePort, have: int) -> Subscription:
        """Subscribe an edge, if it is not: it goes on behind message `have`, if that can be (0: it has none)."""
        if edge in self.subscriptions or have <= 0:
            return self.open_for(edge)
        subscription = self._subscribe(edge, have)
        self._reopen(subscription, have)
        return subscription

    def _reopen(self, subscription: Subscription, have: int) -> None:
        self._open(subscription, have)
        if self._catch_up(subscription):
            return
        publication = self.publication
        if publication is None or publication.suspended or publication.awaited:
            # What it lacks is with the publisher, if anything.
            subscription.waiting = True
            if publication is None:
                self.due = self._group.clock() + self._config.resume_grace_s
        elif self._kept is not None and have > self.last:
            pass  # The ring has not come that far yet.
        elif self._kept is None and self._first <= have + 1 <= self.last:
            # The publisher's edge has what came meanwhile.
            again = self._ask(publication.session, publication.net_stream, resumed=True)
            again.former = publication.number
            self.publication = publication.net_stream.publication = again
            subscription.waiting = True
        else:
            self._begin_anew(subscription)

    def suspend_player(self, session: "Session", net_stream: "NetStream") -> None:
        """A player's link is lost. It is told nothing, nor is its edge."""
        net_stream.playing = None
        subscription = self.subscriptions.get(session.edge)
        if subscription is not None:
            subscription.players.pop(net_stream, None)
            if not subscription.players:
                del self.subscriptions[session.edge]
                if session.edge.up:
                    # Another edge has the session; this one lives.
                    session.edge.link.send(StreamClosed(subscription.number))

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

    def tend(self, now: float) -> bool:
        """What was kept for late edges is let go in time. Returns whether nobody needs to wait for the publisher any longer."""
        if self._kept is not None and now >= self._kept.until:
            self._kept = None
        # Where it is because nobody publishes, `give_up` sees to them.
        if self.publication is not None or not self.due:
            self.late.tend(now)
        # Whoever is absent still may be the publisher.
        if self.publication is not None or self.reserved is not None:
            return False
        return 0 < self.due <= now and not self._group.absent

    def health(self) -> dict[str, object]:
        """Messages in, and out for each edge."""
        return {
            "publisher": self.publication.session.session_id if self.publication is not None else None,
            "messages_in": self.messages_in,
            "bytes_in": self.bytes_in,
            "edges": {
                edge.link.peer: subscription.health() for edge, subscription in self.subscriptions.items()
            },
        }
