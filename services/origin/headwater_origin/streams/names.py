"""The streams of a group by name: who begins and who stops to publish and play them, and who is told."""

from typing import TYPE_CHECKING, Any

from headwater_bus.logs import get_log
from headwater_bus.traffic import PublishStopped
from headwater_rtmp.control import stream_begin, stream_eof
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.streams import routes as stream_routes
from headwater_origin.streams.net_stream import NetStream
from headwater_origin.streams.stream import Publication, Stream

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_log = get_log("origin")


class Streams:
    """Of one group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.by_name: dict[str, Stream] = {}
        self.published_elsewhere: dict[str, tuple[str, int]] = {}
        """Where streams are spread: who publishes (session id), with which message stream, by the stream's group."""
        self._suspended: dict[str, list[tuple[bool, str]]] = {}
        """Of sessions whose links are lost, by id: what each published (True) and played."""

    def open(self, name: str) -> Stream:
        """The stream of this name; it is there while somebody publishes or plays it."""
        stream = self.by_name.get(name)
        if stream is None:
            stream = self.by_name[name] = Stream(name, self._group)
        return stream

    def publish(self, session: "Session", net_stream: "NetStream", name: str) -> None:
        """Make a session the publisher of a name that is free; waiting players are told."""
        stream = self.open(name)
        stream.start_publishing(session, net_stream)
        session.mark_state()
        _log.info(
            "published",
            group=self._group.name,
            stream=name,
            session=session.session_id,
            address=session.address,
        )
        for player, playing in stream.players():
            player.reply(stream_begin(playing.id))
            player.send_status(playing.id, status(StatusCode.PLAY_PUBLISH_NOTIFY, f"{name} is published"))

    def stop(self, session: "Session", net_stream: "NetStream", tell: bool = True) -> None:
        """A message stream publishes and plays nothing any more. `tell`: the client is still there."""
        publication, playing = net_stream.publication, net_stream.playing
        if publication is not None or playing is not None:
            session.mark_state()
        if publication is not None:
            self._unpublish(session, publication.stream, tell)
        if playing is not None:
            playing.remove_player(session, net_stream, tell)
            self._forget(playing)
            self._tell_of_end(session, False, playing.name)

    def _unpublish(self, session: "Session", stream: Stream, tell: bool) -> None:
        stream.stop_publishing(tell)
        _log.info("unpublished", group=self._group.name, stream=stream.name, session=session.session_id)
        self._tell_unpublished(stream, stream.players())
        self._forget(stream)
        self._tell_of_end(session, True, stream.name)

    def _tell_unpublished(self, stream: Stream, players: "list[tuple[Session, NetStream]]") -> None:
        for player, playing in players:
            if not player.closed:
                info = status(StatusCode.PLAY_UNPUBLISH_NOTIFY, f"{stream.name} is not published any more")
                player.send_status(playing.id, info)
                player.reply(stream_eof(playing.id))

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

    def suspend(self, session: "Session") -> None:
        """The link of a session is lost: what it publishes stays its own, with the players; what it plays goes on when it is
        back."""
        ended: list[tuple[bool, str]] = []
        for net_stream in session.streams.values():
            publication, playing = net_stream.publication, net_stream.playing
            if publication is not None:
                publication.stream.suspend_publishing()
                ended.append((True, publication.stream.name))
            if playing is not None:
                playing.suspend_player(session, net_stream)
                self._forget(playing)
                ended.append((False, playing.name))
        if ended:
            self._suspended[session.session_id] = ended

    def gone(self, session: "Session") -> None:
        """A session whose link was lost does not come back: what it did with streams has ended."""
        for published, name in self._suspended.pop(session.session_id, ()):
            if not published:
                self._tell_of_end(session, False, name)
            elif self._reserved_by(session, name) is not None:
                self._unpublish(session, self.by_name[name], tell=False)
        stream_routes.forget(session)

    def _reserved_by(self, session: "Session", name: str) -> Publication | None:
        stream = self.by_name.get(name)
        publication = None if stream is None else stream.publication
        if publication is None or not publication.suspended:
            return None
        return publication if publication.session.session_id == session.session_id else None

    def resume(self, session: "Session", rows: list[list[Any]], held: list[list[Any]]) -> None:
        """A session goes on, with the message streams that it had (`state_rows`). `held`: rows [name, number] of the last message
        that its edge has of each stream that it plays."""
        numbers: dict[str, int] = dict(held)
        before = self._suspended.pop(session.session_id, ())
        session.streams.clear()
        for stream_id, publishes, plays, audio, video, paused, route in rows:
            net_stream = session.streams[stream_id] = NetStream(stream_id)
            net_stream.audio, net_stream.video, net_stream.paused = bool(audio), bool(video), bool(paused)
            net_stream.route = route
            if publishes:
                self._resume_publishing(session, net_stream, publishes)
            if plays:
                self.open(plays).resume_player(session, net_stream, numbers.get(plays, 0))
        for published, name in before:
            # What its edge never heard has begun will begin once more.
            if published and self._reserved_by(session, name) is not None:
                self._unpublish(session, self.by_name[name], tell=False)

    def _resume_publishing(self, session: "Session", net_stream: "NetStream", name: str) -> None:
        stream = self.open(name)
        if stream.publication is not None and self._reserved_by(session, name) is None:
            # Somebody else was there first.
            _log.warning("name taken", group=self._group.name, stream=name, session=session.session_id)
            self._group.reply(session, PublishStopped(session.number, net_stream.id))
            session.send_status(
                net_stream.id, status(StatusCode.PUBLISH_BAD_NAME, f"{name} is published by another by now")
            )
            self._tell_of_end(session, True, name)
            session.mark_state()
            return
        stream.start_publishing(session, net_stream, resumed=True)
        _log.info("publishes on", group=self._group.name, stream=name, session=session.session_id)

    def abandon(self) -> None:
        """The group ends here without a word: another origin has it, and its streams go on there."""
        for stream in self.by_name.values():
            stream.abandon()

    def tick(self, now: float) -> None:
        """Players whose stream's publisher does not come are told, as of any that ends."""
        for stream in list(self.by_name.values()):
            if stream.tend(now):
                self._tell_unpublished(stream, stream.give_up())
                self._forget(stream)

    def health(self) -> dict[str, Any]:
        """Each by its name."""
        return {name: stream.health() for name, stream in self.by_name.items()}
