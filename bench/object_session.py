"""How a member of the object load opens: handshake, connect, then the use of its objects. Blocking, one client at a time."""

import socket
from collections.abc import Iterable

from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection, HandshakeCompleted
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object

from bench.object_wire import CHUNK_BYTES
from bench.session import SessionError, Target

_OPEN_S = 10.0
_CONNECT = 1


class ObjectSession:
    """Sans-IO: send what `start()` and `feed()` return; `joined` once every object is there."""

    def __init__(self, target: Target, names: Iterable[str], persistent: bool) -> None:
        self._target, self._persistent = target, persistent
        self._waiting = set(names)
        self._connection = Connection.client()

    @property
    def joined(self) -> bool:
        """Whether every object is used."""
        return not self._waiting

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
                about = {
                    "app": self._target.app,
                    "flashVer": "WIN 32,0,0,100",
                    "tcUrl": self._target.tc_url,
                    "objectEncoding": 0.0,
                }
                out += connection.send_chunk_size(CHUNK_BYTES)
                out += connection.send(encode_command("connect", _CONNECT, about))
            elif isinstance(event, Message):
                out += self._message(event)
        return connection.data_to_send() + out

    def _message(self, message: Message) -> bytes:
        if message.type_id == MessageType.COMMAND_AMF0:
            command = decode_command(message)
            if command.name == "_error":
                raise SessionError(f"connect: {command.args!r}"[:200])
            if command.name == "_result" and command.transaction_id == _CONNECT:
                send, events = self._connection.send, [Event(EventType.USE)]
                return b"".join(
                    send(encode_shared_object(name, 0, self._persistent, events))
                    for name in sorted(self._waiting)
                )
        elif message.type_id == MessageType.SHARED_OBJECT_AMF0:
            decoded = decode_shared_object(message)
            for event in decoded.events:
                if event.type == EventType.STATUS:
                    raise SessionError(f"object {decoded.name}: {event.code}")
                if event.type == EventType.USE_SUCCESS:
                    self._waiting.discard(decoded.name)
        return b""


def open_member(target: Target, names: Iterable[str], persistent: bool) -> socket.socket:
    """A client that uses the objects. Raises OSError and SessionError."""
    sock = socket.create_connection((target.host, target.port), timeout=_OPEN_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = ObjectSession(target, names, persistent)
        sock.sendall(session.start())
        while not session.joined:
            data = sock.recv(65536)
            if not data:
                raise SessionError("closed by the server")
            sock.sendall(session.feed(data))
    except RemoteProtocolError as error:
        sock.close()
        raise SessionError(str(error)) from error
    except BaseException:
        sock.close()
        raise
    return sock
