"""How a client of the load opens: handshake, connect, then createStream and publish or play. Sans-IO, on `headwater_rtmp`."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from headwater_rtmp import control
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection, HandshakeCompleted
from headwater_rtmp.message import Message, MessageType

_CONNECT, _CREATE_STREAM, _STREAM = 1, 2, 3
_PUBLISH_CHUNK_BYTES = 4096
"""What OBS and most hardware encoders send with."""
_PLAY_BUFFER_MS = 1000
_CSIDS = {MessageType.AUDIO: 4, MessageType.VIDEO: 6}


class Mode(Enum):
    """What a session is for."""

    CONNECT = "connect"
    """Nothing more."""
    PUBLISH = "publish"
    PLAY = "play"


_STARTED = {Mode.PUBLISH: "NetStream.Publish.Start", Mode.PLAY: "NetStream.Play.Start"}


class SessionError(Exception):
    """The server refused; the text holds what it said."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the stream is: rtmp://host:port/app/stream."""

    host: str
    port: int
    app: str = "live"
    stream: str = "bench"

    @property
    def tc_url(self) -> str:
        """The URL that connect names."""
        return f"rtmp://{self.host}:{self.port}/{self.app}"


class Session:
    """One client. Send what `start()` and `feed()` return; `started` when all of that is there.

    `on_message` gets every message that is not part of the opening.
    """

    __slots__ = ("_connection", "_mode", "_on_message", "_target", "started", "stream_id")

    def __init__(
        self, target: Target, mode: Mode, on_message: Callable[[Message], None] | None = None
    ) -> None:
        self._target, self._mode, self._on_message = target, mode, on_message
        self._connection = Connection.client()
        self.started = False
        self.stream_id = 0

    def start(self) -> bytes:
        """The first bytes."""
        return self._connection.data_to_send()

    def feed(self, data: bytes) -> bytes:
        """Received bytes; returns what to send. Raises SessionError, and RemoteProtocolError for broken bytes."""
        connection = self._connection
        connection.feed(data)
        out = b""
        while (event := connection.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                out += self._connect()
            elif isinstance(event, Message):
                if event.type_id in (MessageType.COMMAND_AMF0, MessageType.COMMAND_AMF3):
                    out += self._command(event)
                elif self._on_message is not None:
                    self._on_message(event)
        return connection.data_to_send() + out

    def send(self, message: Message) -> bytes:
        """The bytes of a message of the stream."""
        return self._connection.send(message, _CSIDS.get(MessageType(message.type_id)))

    def _call(self, name: str, transaction_id: int, *args: Any, stream_id: int = 0) -> bytes:
        return self._connection.send(encode_command(name, transaction_id, *args, stream_id=stream_id))

    def _connect(self) -> bytes:
        target = self._target
        about = {
            "app": target.app,
            "flashVer": "FMLE/3.0 (compatible; bench)",
            "tcUrl": target.tc_url,
            "objectEncoding": 0.0,
        }
        size = self._connection.send_chunk_size(_PUBLISH_CHUNK_BYTES) if self._mode is Mode.PUBLISH else b""
        return size + self._call("connect", _CONNECT, about)

    def _command(self, message: Message) -> bytes:
        command = decode_command(message)
        info = command.args[0] if command.args else None
        code = str(info.get("code", "")) if isinstance(info, dict) else ""
        if command.name == "_error" or (isinstance(info, dict) and info.get("level") == "error"):
            raise SessionError(code or f"{command.name} {command.args!r}"[:200])
        if command.name == "_result" and command.transaction_id == _CONNECT:
            if self._mode is Mode.CONNECT:
                self.started = True
                return b""
            return self._call("createStream", _CREATE_STREAM, None)
        if command.name == "_result" and command.transaction_id == _CREATE_STREAM:
            if not isinstance(info, float):
                raise SessionError(f"createStream answered {command.args!r}"[:200])
            self.stream_id = int(info)
            return self._open_stream()
        if command.name == "onStatus" and code == _STARTED.get(self._mode):
            self.started = True
        return b""

    def _open_stream(self) -> bytes:
        name, stream_id = self._target.stream, self.stream_id
        if self._mode is Mode.PUBLISH:
            return self._call("publish", _STREAM, None, name, "live", stream_id=stream_id)
        buffer = self._connection.send(control.set_buffer_length(stream_id, _PLAY_BUFFER_MS))
        return self._call("play", _STREAM, None, name, -2000.0, stream_id=stream_id) + buffer
