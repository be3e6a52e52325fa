"""The streams of a group by name: who begins and who stops to publish and play them, and who is told."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from headwater_bus.logs import get_log
from headwater_bus.traffic import PublishStopped
from headwater_rtmp.command import encode_command
from headwater_rtmp.control import stream_begin, stream_eof
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.durable.said import message_form
from headwater_origin.streams import routes as stream_routes
from headwater_origin.streams.net_stream import NetStream
from headwater_origin.streams.publication import Publication
from headwater_origin.streams.stream import Stream
from headwater_origin.streams.timeline import Timeline

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_log = get_log("origin")


def _published(player: "Session", stream_id: int, name: str) -> list[Message]:
    info = status(StatusCode.PLAY_PUBLISH_NOTIFY, f"{name} is published")
    return [stream_begin(stream_id), _status(player, stream_id, info)]


def _unpublished(player: "Session", stream_id: int, name: str) -> list[Message]:
    info = status(StatusCode.PLAY_UNPUBLISH_NOTIFY, f"{name} is not published any more")
    return [_status(player, stream_id, info), stream_eof(stream_id)]


def _status(player: "Session", stream_id: int, info: dict[str, Any]) -> Message:
    return encode_command("onStatus", 0, None, info, stream_id=stream_id, amf3=player.amf3)


class Streams:
    """Of one group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.by_name: dict[str, Stream] = {}
        self.published_elsewhere: dict[str, tuple[str, int]] = {}
        """Where streams are spread: who publishes (session id), with which message stream, by the stream's group."""
        self._suspended: dict[str, list[tuple[bool, str, NetStream]]] = {}
        """Of sessions whose links are lost, by id: what each published (True) and played, and on which message stream."""
        self._awaited: set[str] = set()
        """Names that are kept for publishers that have gone without a goodbye."""

    def open(self, name: str) -> Stream:
        """The stream of this name; it is there while somebody publishes or plays it."""
        stream = self.by_name.get(name)
        if stream is None:
            stream = self.by_name[name] = Stream(name, self._group)
        return stream

    def publish(self, session: "Session", net_stream: "NetStream", name: str) -> None:
        """Make a session the publisher of a name that is free; waiting players are told."""
        self.make_way(name)
        stream = self.open(name)
        goes_on = stream.reserved is not None
        self._awaited.discard(name)
        if not goes_on:
            outputs = self._group.outputs
            before = outputs.count
            self._tell_players(name, stream.players(), _published)
            if outputs.count != before:
                # Players hear of it before they see it.
                outputs.hold(session)
        stream.start_publishing(session, net_stream)
        session.mark_state()
        _log.info(
            "published",
            group=self._group.name,
            stream=name,
            session=session.session_id,
            address=session.address,
            goes_on=goes_on,
        )

    def stop(
        self, session: "Session", net_stream: "NetStream", tell: bool = True, lost: bool = False
    ) -> None:
        """A message stream publishes and plays nothing any more. `tell`: the client is still there; `lost`: it has gone without a
        goodbye."""
        publication, playing = net_stream.publication, net_stream.playing
        if publication is not None or playing is not None:
            session.mark_state()
        if publication is not None and lost:
            self._lost(session, publication.stream)
        elif publication is not None:
            self._unpublish(session, publication.stream, tell)
        if playing is not None:
            playing.remove_player(session, net_stream, tell)
            self._forget(playing)
            self._tell_of_end(session, False, playing.name)

    def _unpublish(self, session: "Session", stream: Stream, tell: bool) -> None:
        stream.stop_publishing(tell)
        _log.info("unpublished", group=self._group.name, stream=stream.name, session=session.session_id)
        self._tell_players(stream.name, stream.players(), _unpublished)
        self._forget(stream)
        self._tell_of_end(session, True, stream.name)

    def _lost(self, session: "Session", stream: Stream, silent_s: float = 0.0) -> None:
        """A publisher has gone without a goodbye, so long ago. The application hears of it now, players when nobody follows."""
        left_s = self._group.config.publisher_grace_s - silent_s
        publication = stream.publication
        full = len(self._awaited) >= self._group.config.publishers_awaited
        if left_s <= 0 or full or publication is None or not publication.net_stream.proof:
            self._unpublish(session, stream, tell=False)
            return
        self._awaited.add(stream.name)
        stream.reserve(self._group.clock() + left_s)
        _log.info(
            "publisher lost",
            group=self._group.name,
            stream=stream.name,
            session=session.session_id,
            waits_s=left_s,
        )
        self._tell_of_end(session, True, stream.name)

    def hindrance(self, net_stream: "NetStream", name: str, proof: bytes) -> str:
        """Why a message stream cannot publish a name, for the client; empty: it can."""
        stream = self.by_name.get(name)
        if stream is None:
            return ""
        now = self._group.clock()
        if stream.reserved is not None and stream.reserved.proof != proof:
            left_s = max(1, round(stream.reserved.until - now))
            return f"{name} is reserved for its publisher for {left_s} s, which shows another key or comes from elsewhere"
        publication = stream.publication
        if publication is None or publication.net_stream is net_stream:
            return ""
        if proof and publication.net_stream.proof == proof and stream.silent():
            return ""
        return f"{name} is published already"

    def make_way(self, name: str) -> None:
        """Who publishes a name, and is silent, does not any more: another one with the same proof does, at once."""
        stream = self.by_name.get(name)
        publication = None if stream is None else stream.publication
        if stream is None or publication is None:
            return
        session, net_stream = publication.session, publication.net_stream
        suspended = publication.suspended
        stream.reserve(self._group.clock())
        _log.info("publisher replaced", group=self._group.name, stream=name, session=session.session_id)
        if suspended:
            return  # It hears of it when it comes back, and the application then, or when its time is up.
        self._group.reply(session, PublishStopped(session.number, net_stream.id))
        info = status(
            StatusCode.UNPUBLISH_SUCCESS, f"{name} is published by another connection with the same key"
        )
        session.send_status(net_stream.id, info)
        session.mark_state()
        self._tell_of_end(session, True, name)

    def _tell_players(
        self,
        name: str,
        players: "list[tuple[Session, NetStream]]",
        what: "Callable[[Session, int, str], list[Message]]",
    ) -> None:
        """Those who may go to another edge, or are on their way, hear it there if they have not here."""
        for player, playing in [*players, *self._on_their_way(name)]:
            if player.closed and not player.absent:
                continue
            for message in what(player, playing.id, name):
                if player.stored is None:
                    player.reply(message)
                else:
                    self._group.durable.say(player, message_form(message))

    def _on_their_way(self, name: str) -> "Iterator[tuple[Session, NetStream]]":
        for session_id, suspended in self._suspended.items():
            session = self._group.absent.get(session_id)
            if session is not None and session.stored is not None:
                yield from (
                    (session, net_stream)
                    for published, played, net_stream in suspended
                    if not published and played == name
                )

    def _tell_of_end(self, session: "Session", published: bool, name: str) -> None:
        hook = "on_unpublish" if published else "on_stop_play"
        if session.accepted and not session.guest and self._group.waits(hook):
            self._later(session, hook, name)

    def _later(self, session: "Session", hook: str, name: str) -> None:
        session.post(lambda: hooks.tell(self._group, hook, session.client, name), waits=True, always=True)

    def _forget(self, stream: Stream) -> None:
        if stream.idle:
            self.by_name.pop(stream.name, None)

    # Sessions that come back

    def state_rows(self, session: "Session") -> list[list[Any]]:
        """What `resume` needs to know of a session's message streams."""
        return [
            [
                net_stream.id,
                "" if net_stream.publication is None else net_stream.publication.stream.name,
                "" if net_stream.playing is None else net_stream.playing.name,
                net_stream.audio,
                net_stream.video,
                net_stream.paused,
                net_stream.route,
            ]
            for net_stream in session.streams.values()
        ]

    def publication_rows(self, session: "Session") -> list[list[Any]]:
        """What `resume` needs to know of who publishes on them, here or elsewhere."""
        rows: list[list[Any]] = []
        for net_stream in session.streams.values():
            publication, shift = net_stream.publication, -1
            if publication is not None and publication.stream.timeline is not None:
                shift = publication.stream.timeline.shift
            if net_stream.proof and (publication is not None or net_stream.route):
                rows.append([net_stream.id, net_stream.proof, shift])
        return rows

    def suspend(self, session: "Session") -> None:
        """The link of a session is lost: what it publishes stays its own, with the players; what it plays goes on when it is
        back."""
        ended: list[tuple[bool, str, NetStream]] = []
        for net_stream in session.streams.values():
            publication, playing = net_stream.publication, net_stream.playing
            if publication is not None:
                publication.stream.suspend_publishing()
                ended.append((True, publication.stream.name, net_stream))
            if playing is not None:
                playing.suspend_player(session, net_stream)
                self._forget(playing)
                ended.append((False, playing.name, net_stream))
        if ended:
            self._suspended[session.session_id] = ended

    def gone(self, session: "Session") -> None:
        """A session whose link was lost does not come back: what it did with streams has ended."""
        for published, name, _ in self._suspended.pop(session.session_id, ()):
            if published and self._reserved_by(session, name) is not None:
                stream = self.by_name[name]
                self._lost(session, stream, stream.silent_s)
            else:
                # What it published may have been taken over meanwhile.
                self._tell_of_end(session, published, name)
        stream_routes.forget(session)

    def _reserved_by(self, session: "Session", name: str) -> Publication | None:
        stream = self.by_name.get(name)
        publication = None if stream is None else stream.publication
        if publication is None or not publication.suspended:
            return None
        return publication if publication.session.session_id == session.session_id else None

    def resume(
        self,
        session: "Session",
        rows: list[list[Any]],
        held: list[list[Any]],
        publications: Iterable[list[Any]] = (),
    ) -> None:
        """A session goes on, with the message streams that it had (`state_rows`, `publication_rows`). `held`: rows [name, number]
        of the last message that its edge has of each stream that it plays."""
        proofs = {stream_id: (proof, shift) for stream_id, proof, shift in publications}
        numbers: dict[str, int] = {row[0]: row[1] for row in held if len(row) == 2}
        # Of one that another edge had each stream is told by itself.
        positions: dict[int, int] = {row[2]: row[1] for row in held if len(row) > 2}
        before = self._suspended.pop(session.session_id, ())
        session.streams.clear()
        for stream_id, publishes, plays, audio, video, paused, route in rows:
            net_stream = session.streams[stream_id] = NetStream(stream_id)
            net_stream.audio, net_stream.video, net_stream.paused = bool(audio), bool(video), bool(paused)
            net_stream.route = route
            net_stream.proof, shift = proofs.get(stream_id, (b"", -1))
            if publishes:
                self._resume_publishing(session, net_stream, publishes, shift)
            if not plays:
                continue
            stream, edge_has = self.open(plays), numbers.get(plays, 0)
            if stream_id in positions:
                stream.take_over_player(session, net_stream, positions[stream_id], edge_has)
            else:
                stream.resume_player(session, net_stream, edge_has)
        for published, name, _ in before:
            # What its edge never heard has begun will begin once more.
            if published and self._reserved_by(session, name) is not None:
                self._unpublish(session, self.by_name[name], tell=False)

    def _resume_publishing(self, session: "Session", net_stream: "NetStream", name: str, shift: int) -> None:
        stream = self.open(name)
        reserved = stream.reserved is not None and stream.reserved.proof != net_stream.proof
        if reserved or (stream.publication is not None and self._reserved_by(session, name) is None):
            # Somebody else was there first.
            _log.warning("name taken", group=self._group.name, stream=name, session=session.session_id)
            self._group.reply(session, PublishStopped(session.number, net_stream.id))
            session.send_status(
                net_stream.id, status(StatusCode.PUBLISH_BAD_NAME, f"{name} is published by another by now")
            )
            self._tell_of_end(session, True, name)
            session.mark_state()
            return
        if shift >= 0 and stream.timeline is None:
            stream.timeline = Timeline(None, 0.0, shift)
        self._awaited.discard(name)
        stream.start_publishing(session, net_stream, resumed=True)
        _log.info("publishes on", group=self._group.name, stream=name, session=session.session_id)

    def abandon(self) -> None:
        """The group ends here without a word: another origin has it, and its streams go on there."""
        for stream in self.by_name.values():
            stream.abandon()

    def tick(self, now: float) -> None:
        """Players whose stream's publisher does not come are told, as of any that ends."""
        for stream in list(self.by_name.values()):
            if stream.reserved is not None and now >= stream.reserved.until:
                _log.info(
                    "unpublished",
                    group=self._group.name,
                    stream=stream.name,
                    reason="its publisher did not come back",
                )
                self._awaited.discard(stream.name)
                self._tell_players(stream.name, stream.unreserve(), _unpublished)
                self._forget(stream)
            elif stream.tend(now):
                self._tell_players(stream.name, stream.give_up(), _unpublished)
                self._forget(stream)

    def health(self) -> dict[str, Any]:
        """Each by its name."""
        return {name: stream.health() for name, stream in self.by_name.items()}
