"""An RTMP server in this process, for tests of the client: says what a test tells it to, and keeps what it was told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from headwater_rtmp import control
from headwater_rtmp.command import Command, decode_command, encode_command, encode_data
from headwater_rtmp.connection import Connection, HandshakeCompleted
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import decode_shared_object
from headwater_rtmp.status import StatusCode, status
from support.tunnel_front import TunnelFront
from unit.client_object_model import ModelObject

MEDIA = (8, 9, 15, 18)


class Peer:
    """A client of the fake server."""

    def __init__(self, server: "FakeServer", sock: Any) -> None:
        self.server, self.sock = server, sock
        self.rtmp = Connection.server()
        self.connect: Command | None = None
        self.commands: list[Command] = []
        self.media: list[Message] = []
        self.events: list[Any] = []
        self.amf3 = False
        self.streams = 0
        self.digest_scheme: int | None = None
        self.gone = Event()

    def write(self, *messages: Message) -> None:
        try:
            self.sock.sendall(b"".join(self.rtmp.send(message) for message in messages))
        except OSError:
            pass

    def command(
        self, name: str, transaction: float, *args: Any, stream_id: int = 0, properties: Any = None
    ) -> None:
        self.write(encode_command(name, transaction, properties, *args, stream_id=stream_id, amf3=self.amf3))

    def status(self, stream_id: int, code: StatusCode, text: str = "") -> None:
        self.command("onStatus", 0, status(code, text), stream_id=stream_id)

    def run(self) -> None:
        try:
            self.sock.sendall(self.rtmp.data_to_send())
            while data := self.sock.recv(65536):
                self.rtmp.feed(data)
                self.sock.sendall(self.rtmp.data_to_send())
                while (event := self.rtmp.next_event()) is not None:
                    if isinstance(event, HandshakeCompleted):
                        self.digest_scheme = event.digest_scheme
                    elif isinstance(event, Message):
                        self.message(event)
                    else:
                        self.events.append(event)
                self.sock.sendall(self.rtmp.data_to_send())
                while self.server.deaf:
                    gevent.sleep(0.005)
        except (OSError, RtmpError):
            pass
        finally:
            self.gone.set()
            for shared in self.server.objects.values():
                shared.users.pop(self, None)

    def message(self, message: Message) -> None:
        if message.type_id in MEDIA:
            self.media.append(message)
        elif message.type_id in (16, 19):
            asked = decode_shared_object(message)
            shared = self.server.object(asked.name, asked.persistent)
            self.server.deliver(shared.request(self, asked.events, message.type_id == 16, asked.version))
        elif message.type_id in (17, 20):
            command = decode_command(message)
            self.commands.append(command)
            handler: Any = self.server.answers.get(command.name) or getattr(self, f"do_{command.name}", None)
            if handler is not None:
                if command.name in self.server.answers:
                    handler(self, command)
                else:
                    handler(command)

    def do_connect(self, command: Command) -> None:
        self.connect = command
        self.rtmp.connected()
        encoding = command.command_object.get("objectEncoding")
        self.write(control.window_acknowledgement_size(2_500_000), control.set_peer_bandwidth(2_500_000))
        info = status(StatusCode.CONNECT_SUCCESS, "welcome", objectEncoding=encoding)
        self.command("_result", command.transaction_id, info, properties={"fmsVer": "FMS/1,2"})
        self.amf3 = encoding == 3

    def do_createStream(self, command: Command) -> None:  # noqa: N802
        self.streams += 1
        self.command("_result", command.transaction_id, float(self.streams))

    def do_publish(self, command: Command) -> None:
        self.status(command.stream_id, StatusCode.PUBLISH_START, "go")

    def do_play(self, command: Command) -> None:
        stream_id = command.stream_id
        self.write(control.stream_begin(stream_id))
        self.status(stream_id, StatusCode.PLAY_RESET)
        self.status(stream_id, StatusCode.PLAY_START)
        self.write(encode_data("|RtmpSampleAccess", True, True, stream_id=stream_id))
        for message in self.server.to_play:
            self.write(Message(message.type_id, stream_id, message.timestamp, message.payload))
        if self.server.ends:
            self.status(stream_id, StatusCode.PLAY_UNPUBLISH_NOTIFY)
            self.write(control.stream_eof(stream_id))

    def do_double(self, command: Command) -> None:
        self.command("_result", command.transaction_id, command.args[0] * 2)

    def do_fail(self, command: Command) -> None:
        self.command("_error", command.transaction_id, status(StatusCode.CALL_FAILED, "no such luck"))


class FakeServer:
    """`answers`: command name to a function (peer, command) that is called instead of what Peer does. `tls`: what a
    StreamServer wants for it."""

    def __init__(self, **tls: Any) -> None:
        self.peers: list[Peer] = []
        self.answers: dict[str, Callable[[Peer, Command], None]] = {}
        self.objects: dict[tuple[str, bool], ModelObject] = {}
        self.refuses: Callable[[Any, str, object], bool] = lambda *_: False
        self.to_play: list[Message] = []
        self.ends = True
        """Whether a player is told the end after `to_play`."""
        self.deaf = False
        """Reads nothing more from its clients while this is set."""
        self._server: Any = StreamServer(("127.0.0.1", 0), self._accept, **tls)
        self._server.start()
        self._tls = tls
        self._front: TunnelFront | None = None

    @property
    def front(self) -> TunnelFront:
        """The same server by RTMPT, from the first use on."""
        if self._front is None:
            self._front = TunnelFront(self._accept, **self._tls)
        return self._front

    def _accept(self, sock: Any, _: Any = None) -> None:
        peer = Peer(self, sock)
        self.peers.append(peer)
        peer.run()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def url(self, path: str = "live") -> str:
        return f"rtmp://127.0.0.1:{self.port}/{path}"

    def tunnel_url(self, path: str = "live") -> str:
        """By RTMPT."""
        return f"rtmpt://127.0.0.1:{self.front.port}/{path}"

    def object(self, name: str, persistent: bool = False) -> ModelObject:
        key = (name, persistent)
        if key not in self.objects:
            self.objects[key] = ModelObject(name, persistent, lambda *args: self.refuses(*args))
        return self.objects[key]

    def deliver(self, deliveries: Any) -> None:
        for peer, message in deliveries:
            peer.write(message)

    def stop(self) -> None:
        self.deaf = False
        for peer in self.peers:
            peer.sock.close()
        self._server.stop(timeout=1)
        if self._front is not None:
            self._front.stop()


@contextmanager
def fake_server(**tls: Any) -> Iterator[FakeServer]:
    """A server for one test."""
    server = FakeServer(**tls)
    try:
        yield server
    finally:
        server.stop()
