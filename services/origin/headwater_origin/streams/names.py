"""The streams of a group by name: who begins and who stops to publish and play them, and who is told."""

from typing import TYPE_CHECKING, Any

from headwater_bus.logs import get_log
from headwater_rtmp.control import stream_begin, stream_eof
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.streams.stream import Stream

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import NetStream, Session

_log = get_log("origin")


class Streams:
    """Of one group."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.by_name: dict[str, Stream] = {}
        self.published_elsewhere: dict[str, tuple[Session, int]] = {}
        """Where streams are spread: who publishes, with which message stream, by the stream's group."""

    def open(self, name: str) -> Stream:
        """The stream of this name; it is there while somebody publishes or plays it."""
        group = self._group
        stream = self.by_name.get(name)
        if stream is None:
            stream = self.by_name[name] = Stream(name, group.config, group.counters)
        return stream

    def publish(self, session: "Session", net_stream: "NetStream", name: str) -> None:
        """Make a session the publisher of a name that is free; waiting players are told."""
        stream = self.open(name)
        stream.start_publishing(session, net_stream)
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
        if publication is not None:
            self._unpublish(session, publication.stream, tell)
        if playing is not None:
            playing.remove_player(session, net_stream, tell)
            self._forget(playing)
            if session.accepted and not session.guest and self._group.waits("on_stop_play"):
                self._later(session, "on_stop_play", playing.name)

    def _unpublish(self, session: "Session", stream: Stream, tell: bool) -> None:
        stream.stop_publishing(tell)
        _log.info("unpublished", group=self._group.name, stream=stream.name, session=session.session_id)
        for player, playing in stream.players():
            if not player.closed:
                info = status(StatusCode.PLAY_UNPUBLISH_NOTIFY, f"{stream.name} is not published any more")
                player.send_status(playing.id, info)
                player.reply(stream_eof(playing.id))
        self._forget(stream)
        if session.accepted and not session.guest and self._group.waits("on_unpublish"):
            self._later(session, "on_unpublish", stream.name)

    def _later(self, session: "Session", hook: str, name: str) -> None:
        session.post(lambda: hooks.tell(self._group, hook, session.client, name), waits=True, always=True)

    def _forget(self, stream: Stream) -> None:
        if stream.idle:
            self.by_name.pop(stream.name, None)

    def health(self) -> dict[str, Any]:
        """Each by its name."""
        return {name: stream.health() for name, stream in self.by_name.items()}
