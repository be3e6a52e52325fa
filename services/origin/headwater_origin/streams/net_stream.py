"""The message streams of a session (RTMP 1.0, 7.2.2)."""

from typing import TYPE_CHECKING

from headwater_bus.traffic import PlayChanged
from headwater_rtmp.message import Message, MessageType

if TYPE_CHECKING:
    from headwater_origin.session import Session
    from headwater_origin.streams.publication import Publication
    from headwater_origin.streams.stream import Stream


class NetStream:
    """A message stream of a session. It publishes, plays, or does nothing."""

    __slots__ = ("audio", "id", "paused", "playing", "proof", "publication", "route", "video")

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.route = ""
        """The group of its own that has the stream, where streams are spread; its commands are sent on there."""
        self.publication: Publication | None = None
        self.proof = b""
        """Who publishes on it, or publishes elsewhere."""
        self.playing: Stream | None = None
        self.audio = self.video = True
        self.paused = False

    def wants(self, message: Message) -> bool:
        """Whether it plays messages of this kind now."""
        if self.paused:
            return False
        if message.type_id == MessageType.AUDIO:
            return self.audio
        return self.video or message.type_id != MessageType.VIDEO


def uses_streams(session: "Session") -> bool:
    """Whether it publishes or plays."""
    return any(
        stream.publication is not None or stream.playing is not None for stream in session.streams.values()
    )


def new_stream(session: "Session") -> NetStream | None:
    """A new message stream with the lowest free id from 1; None when there are too many."""
    streams = session.streams
    if len(streams) >= session.group.config.streams_per_session:
        return None
    stream_id = 1
    while stream_id in streams:
        stream_id += 1
    net_stream = streams[stream_id] = NetStream(stream_id)
    return net_stream


def play_changed(session: "Session", net_stream: NetStream) -> PlayChanged:
    """What a player wants now."""
    return PlayChanged(session.number, net_stream.id, net_stream.audio, net_stream.video, net_stream.paused)
