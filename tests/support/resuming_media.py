"""Edges that publish and play one stream over other links and origins, without sockets: the edge's own `Publication` with its
ring, and what its fan-out would give to players."""

from typing import Any

from headwater_bus import traffic
from headwater_edge.publishing import Publication
from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message

from support.fanout_bench import AVC, META
from support.resuming_edges import Reader, ResumingEdge

HEADERS = (META, AVC)


class MediaEdge(ResumingEdge):
    """One edge. `ring_bytes` of its publications; `got`: what its players of `a` were given, as a list of serial numbers for each
    time that they began: headers are written as their payloads."""

    def __init__(self, name: str, ring_bytes: int = 1 << 20) -> None:
        super().__init__(name)
        self._ring_bytes = ring_bytes
        self.publications: dict[tuple[int, int], Publication] = {}
        self.last_number = 0
        self.stream = 0
        self.got: list[list[Any]] = []
        self.playing: set[int] = set()

    def streams_of(self, client: Reader) -> list[list[Any]]:
        return [["a", self.last_number]] if client.number in self.playing else []

    def forget_link(self) -> None:
        super().forget_link()
        self._interrupted()

    def cut(self, lost: bool = True) -> None:
        super().cut(lost)
        self._interrupted()

    def _interrupted(self) -> None:
        self.stream = 0
        for publication in self.publications.values():
            publication.stream = 0

    def publish(self, client: Reader, message: Message, now: float) -> None:
        """A message of a client that publishes on message stream 1, or believes so."""
        publication = self.publications.get((client.number, 1))
        if publication is not None:
            publication.take(message, now)
        else:
            client.message(message)

    def _carry_out(self, envelope: Any) -> None:
        number = getattr(envelope, "session", 0)
        client = self.clients.get(number)
        if isinstance(envelope, traffic.PublishStarted | traffic.PlayStarted):
            assert client is not None
            assert client.attached or not client.known, envelope
        if isinstance(envelope, traffic.PublishStarted):
            self._publish_started(envelope)
        elif isinstance(envelope, traffic.PublishStopped):
            del self.publications[number, envelope.stream_id]
        elif isinstance(envelope, traffic.StreamOpened):
            self.stream = envelope.stream
            if envelope.after < 0 or not self.got:
                self._begin()
        elif isinstance(envelope, traffic.StreamReset):
            if envelope.stream == self.stream:
                self._begin()
        elif isinstance(envelope, traffic.StreamClosed):
            self.stream = 0
        elif isinstance(envelope, traffic.StreamMedia):
            self._media(envelope)
        elif isinstance(envelope, traffic.PlayStarted):
            self.playing.add(number)
        elif isinstance(envelope, traffic.PlayChanged):
            pass
        else:
            super()._carry_out(envelope)

    def _begin(self) -> None:
        self.last_number = 0
        self.got.append([])

    def _publish_started(self, envelope: traffic.PublishStarted) -> None:
        key = (envelope.session, envelope.stream_id)
        publication = self.publications.get(key)
        if publication is not None and envelope.resumed:
            publication.attachment.link = Sender(self)  # type: ignore[assignment]  # All that it needs of a Link.
            publication.resume(envelope.stream)
            return
        attachment: Any = Home(self, self.clients[envelope.session])
        publication = self.publications[key] = Publication(attachment, envelope.stream, 1e9, self._ring_bytes)
        publication.note_early(envelope.stream_id, 0.0)
        if envelope.resumed:
            publication.resume(envelope.stream)

    def _media(self, envelope: traffic.StreamMedia) -> None:
        if envelope.stream != self.stream:
            return
        if envelope.number:
            if envelope.number <= self.last_number:
                return
            self.last_number = envelope.number
        payload = envelope.payload
        self.got[-1].append(payload if payload in HEADERS else (payload[0] >> 4 == 1, int(payload[5:])))


class Home:
    """What a publication needs of its attachment, and of the client whose home that is."""

    def __init__(self, edge: MediaEdge, client: Reader) -> None:
        self.link = Sender(edge)
        self.unacknowledged = client.kept
        self.client = self.home = self


class Sender:
    """The edge's end of its link."""

    def __init__(self, edge: MediaEdge) -> None:
        self._edge = edge

    def send(self, envelope: Any) -> None:
        self._edge.put(envelope)


def command(client: Reader, name: str, *args: Any, stream_id: int = 1) -> None:
    """A client says something on a message stream."""
    client.message(encode_command(name, 0, None, *args, stream_id=stream_id, amf3=client.amf3))


def picture(serial: int, is_key: bool) -> Message:
    """A video message that says which it is."""
    return Message(9, 1, serial * 10, (b"\x17" if is_key else b"\x27") + b"\x01\x00\x00\x00" + b"%d" % serial)
