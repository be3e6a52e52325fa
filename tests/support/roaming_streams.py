"""A stream whose publisher and players are RTMPT clients that go from edge to edge."""

from typing import Any

from headwater_rtmp.command import encode_command
from headwater_rtmp.media import add_set_data_frame
from headwater_rtmp.message import DATA, Message, MessageType

from support.fanout_bench import AVC, META
from support.resuming_media import picture
from support.roaming_clients import Roamer
from support.roaming_world import RoamingWorld

KEY_EVERY = 5


class Watcher(Roamer):
    """`shown`: the pictures that it was shown, as (whether it is a keyframe, serial); headers as their payloads."""

    def __init__(self, number: int, amf3: bool) -> None:
        super().__init__(number, amf3)
        self.shown: list[Any] = []
        self.sent = 0

    def say(self, name: str, *args: Any, transaction: float = 0.0, stream_id: int = 1) -> None:
        """A command, on its message stream."""
        self.out += self.rtmp.send(
            encode_command(name, transaction, None, *args, stream_id=stream_id, amf3=self.amf3)
        )

    def show(self, count: int) -> None:
        """Publish the next pictures."""
        for _ in range(count):
            self.out += self.rtmp.send(picture(self.sent, self.sent % KEY_EVERY == 0))
            self.sent += 1

    def show_metadata(self) -> None:
        """As encoders do it, also in the middle of a stream."""
        self.out += self.rtmp.send(add_set_data_frame(Message(MessageType.DATA_AMF0, 1, 0, META)))

    def _take(self, message: Message) -> None:
        payload = message.payload
        if payload == AVC or (message.type_id in DATA and payload == META):
            self.shown.append(payload)
        elif message.type_id == MessageType.VIDEO:
            self.shown.append((payload[0] >> 4 == 1, int(payload[5:])))
        else:
            super()._take(message)


class StreamWorld(RoamingWorld):
    """The first client publishes, the others play."""

    roamer = Watcher
    clients: list[Watcher]  # type: ignore[assignment]  # made as `roamer` says

    def __init__(self) -> None:
        super().__init__(flush_ms=0)

    @property
    def publisher(self) -> Watcher:
        """It has shown one picture in the beginning."""
        return self.clients[0]

    @property
    def players(self) -> list[Watcher]:
        """They play from before that on."""
        return self.clients[1:]

    def begin(self) -> None:
        """All clients connect; the stream begins, with all players."""
        super().begin()
        for client in self.clients:
            client.say("createStream", transaction=2.0, stream_id=0)
        for player in self.players:
            player.say("play", "a")
        self.publisher.say("publish", "a", "live")
        self.quiet()
        self.publisher.show_metadata()
        self.publisher.out += self.publisher.rtmp.send(Message(MessageType.VIDEO, 1, 0, AVC))
        self.publisher.show(1)
        self.quiet()
