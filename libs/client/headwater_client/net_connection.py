"""NetConnection: a client's connection to an application (RTMP 1.0, section 7.2.1)."""

import logging
import socket as constants
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult, Event
from gevent.socket import create_connection
from headwater_rtmp.capabilities import CapsEx, FourCcInfo
from headwater_rtmp.chunk import ChunkLimits
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.connection import Connection, HandshakeCompleted
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.control import UserControl, UserControlEvent, set_chunk_size
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.message import COMMANDS, MEDIA, OBJECTS, Message
from headwater_rtmp.shared_object import decode_shared_object
from headwater_rtmp.status import StatusCode, status
from headwater_rtmp.url import RtmpUrl, parse_rtmp_url

from headwater_client.dispatch import Dispatcher
from headwater_client.errors import (
    CallFailed,
    ClientError,
    ConnectError,
    ConnectionClosed,
    SharedObjectError,
    StreamError,
    TimedOut,
)
from headwater_client.net_stream import NetStream
from headwater_client.shared_object import CLIENT_OBJECT_LIMITS, SharedObject
from headwater_client.transport import Transport

_MIB = 1024 * 1024
CLIENT_LIMITS = ChunkLimits(
    max_chunk_size=16 * _MIB, media_bytes=16 * _MIB, command_bytes=16 * _MIB, reassembly_bytes=32 * _MIB
)
"""What a client takes from the server that it chose itself: anything a message can hold."""
_CHUNK_SIZE = 60_000
_CONNECT_TRANSACTION = 1
_LINGER_S = 2.0
_BANDWIDTH = {"onBWCheck": 0.0, "onBWDone": None}
"""What a server that measures the bandwidth calls, and what Flash clients answer, unless a handler is registered."""
_log = logging.getLogger("headwater_client")

StatusHandler = Callable[[dict[str, Any]], object]


def _capabilities() -> dict[str, Any]:
    """Enhanced RTMP v2: whatever the codec, we publish, play or record it. ReconnectRequest is a status like another to us,
    so we do not claim to follow it."""
    every = {"*": float(FourCcInfo.CAN_DECODE | FourCcInfo.CAN_ENCODE | FourCcInfo.CAN_FORWARD)}
    return {
        "fourCcList": ["*"],
        "videoFourCcInfoMap": dict(every),
        "audioFourCcInfoMap": dict(every),
        "capsEx": float(CapsEx.MULTITRACK | CapsEx.MOD_EX | CapsEx.TIMESTAMP_NANO_OFFSET),
    }


class NetConnection:
    """A connection to `rtmp://HOST[:PORT]/APP[/INSTANCE]`; also a context manager that connects and closes.

    `connect_args` go to the application's connect handler, `properties` over the fields of connect's command object.
    `timeout_s` bounds connecting and is what every other wait takes when it is not told. `object_encoding` is 0 (AMF0) or 3
    (AMF3). `digest`: the handshake of Flash Player 9 and later. `queue_bytes` is how much media a stream holds for
    `messages`; when it is full nothing more is read from the connection until some is taken. `follow_redirects`: to so many
    other addresses `connect` goes on, where a server says so.

    Everything waits cooperatively (gevent), no monkey patching is needed. Any greenlet may use it. What is sent leaves
    when the sending greenlet waits for something.
    """

    def __init__(
        self,
        url: str,
        *connect_args: Any,
        timeout_s: float = 10.0,
        object_encoding: int = 0,
        properties: dict[str, Any] | None = None,
        digest: bool = False,
        limits: ChunkLimits = CLIENT_LIMITS,
        queue_bytes: int = 8 * _MIB,
        follow_redirects: int = 0,
    ) -> None:
        """Raises ConnectError for an address that is none, ValueError for another object encoding."""
        self._target = _target("connect", url)
        if object_encoding not in (0, 3):
            raise ValueError(f"object_encoding {object_encoding!r}, expected 0 (AMF0) or 3 (AMF3)")
        self.url = url
        self.timeout_s = timeout_s
        self.amf3 = object_encoding == 3
        """Whether AMF3 is spoken."""
        self.closed = Event()
        """Set when the connection is over, whoever has ended it."""
        self.server_properties: dict[str, Any] = {}
        """What the server says of itself: the properties object of connect's `_result`."""
        self.connect_info: dict[str, Any] = {}
        """The info object of connect's `_result`."""
        self.last_status: dict[str, Any] = {}
        """The last `onStatus` about the connection."""
        self.dispatcher = Dispatcher()
        self.queue_bytes = queue_bytes
        self._connect_args = connect_args
        self._properties = properties or {}
        self._digest, self._limits = digest, limits
        self._follow_redirects = follow_redirects
        self._transport: Transport | None = None
        self._calls: dict[float, tuple[str, AsyncResult[Any]]] = {}
        self._last_transaction = _CONNECT_TRANSACTION
        self._handlers: dict[str, Callable[..., object]] = {}
        self._status_handlers: list[StatusHandler] = []
        self._streams: dict[int, NetStream] = {}
        self._objects: dict[tuple[str, bool], SharedObject] = {}

    def __repr__(self) -> str:
        state = (
            "closed" if self.closed.is_set() else "open" if self._transport is not None else "not connected"
        )
        return f"<NetConnection {self.url} {state}>"

    # Connecting and closing

    def connect(self) -> None:
        """Connect and wait until the application accepts. Raises ConnectError with the server's code and description; a
        NetConnection connects once. After a redirect `url` is the address where it has ended."""
        asked = f"connect to {self.url}"
        if self._transport is not None:
            raise ConnectError(asked, text="it was connected before; make another NetConnection")
        deadline = time.monotonic() + self.timeout_s
        for redirects_left in range(self._follow_redirects, -1, -1):
            try:
                self._connect(f"connect to {self.url}", deadline, redirects_left > 0)
            except ConnectError as error:
                if error.redirect is None or not redirects_left:
                    raise
                self._target = _target(f"connect to {self.url}, redirected", error.redirect)
                self.url = error.redirect
            else:
                return

    def _connect(self, asked: str, deadline: float, may_go_on: bool) -> None:
        """Connect to `_target`. `may_go_on`: after a redirect the connection is not over."""
        target = self._target
        try:
            left_s = max(0.001, deadline - time.monotonic())
            sock = create_connection((target.host, target.port), timeout=left_s)
            sock.settimeout(None)
            sock.setsockopt(constants.IPPROTO_TCP, constants.TCP_NODELAY, 1)
        except OSError as error:
            raise ConnectError(
                asked, text=f"{target.host}:{target.port}: {error.strerror or error}"
            ) from error
        rtmp = Connection.client(digest=self._digest, limits=self._limits)
        transport = self._transport = Transport(sock, rtmp, self.url, self._event, self._ended)
        self.last_status = {}
        answer: AsyncResult[Any] = AsyncResult()
        self._calls[_CONNECT_TRANSACTION] = ("connect", answer)
        accepted = False
        try:
            transport.start()
            answer.get(timeout=max(0.0, deadline - time.monotonic()))
            transport.enqueue(set_chunk_size(_CHUNK_SIZE))
            accepted = True
        except gevent.Timeout:
            to_what = "connect" if rtmp.handshaken else "the handshake"
            raise ConnectError(asked, text=f"no answer to {to_what} within {self.timeout_s:g} s") from None
        except CallFailed as failed:
            refusal = ConnectError(asked, failed.info)
            if may_go_on and refusal.redirect is not None:
                self._transport = None  # It ends, we do not.
            raise refusal from None
        except ConnectionClosed:
            code, text = self.last_status.get("code"), transport.reason
            raise ConnectError(asked, text=f"{code}: {text}" if code else text) from None
        finally:
            if not accepted:
                transport.close()

    def close(self) -> None:
        """Send what is queued (for `timeout_s` at most) and close. What waits for an answer fails with ConnectionClosed; streams
        end."""
        transport = self._transport
        if transport is None:
            self.closed.set()
            return
        for stream in list(self._streams.values()):
            stream.ended(discard=True)  # A full queue must not keep the reader from seeing the end.
        transport.close(self.timeout_s, _LINGER_S)

    def __enter__(self) -> "NetConnection":
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def close_reason(self) -> str:
        """Why it was closed; empty while it is not. Begins with the server's last word, if that was one about closing."""
        if not self.closed.is_set():
            return ""
        reason = self._transport.reason if self._transport is not None else "never connected"
        code = str(self.last_status.get("code", ""))
        if code.startswith("NetConnection.Connect.") and code != StatusCode.CONNECT_SUCCESS:
            return ": ".join(
                part for part in (code, str(self.last_status.get("description", "")), reason) if part
            )
        return reason

    @property
    def transport(self) -> Transport:
        """What carries the messages; for the parts of this package. Raises ConnectionClosed when there is none yet."""
        if self._transport is None:
            raise ConnectionClosed(f"{self.url}: not connected: call connect() first")
        return self._transport

    # Calls

    def call(self, name: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call a method of the application and wait for its result. Raises CallFailed with the server's info object,
        TimedOut, ConnectionClosed."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        transport = self.transport
        transport.wait_for_room()
        self._last_transaction += 1
        transaction = float(self._last_transaction)
        message = self._encode(name, transaction, args)
        answer: AsyncResult[Any] = AsyncResult()
        self._calls[transaction] = (name, answer)
        try:
            transport.enqueue(message)
            return answer.get(timeout=timeout_s)
        except gevent.Timeout:
            raise TimedOut(f"call of {name!r} at {self.url}: no answer within {timeout_s:g} s") from None
        finally:
            self._calls.pop(transaction, None)

    def notify(self, name: str, *args: Any) -> None:
        """Call a method of the application that does not answer. Raises ConnectionClosed."""
        transport = self.transport
        transport.wait_for_room()
        transport.enqueue(self._encode(name, 0, args))

    def send_stream_command(self, stream_id: int, name: str, *args: Any) -> None:
        """A command on a message stream, without an answer of its own; for NetStream."""
        transport = self.transport
        transport.wait_for_room()
        transport.enqueue(self._encode(name, 0, args, stream_id))

    def _encode(self, name: str, transaction: float, args: tuple[Any, ...], stream_id: int = 0) -> Message:
        try:
            return encode_command(name, transaction, None, *args, stream_id=stream_id, amf3=self.amf3)
        except LocalProtocolError as error:
            raise ClientError(f"{name!r} at {self.url}: {error}") from error

    def on(self, name: str, handler: Callable[..., object]) -> None:
        """Let the server call `handler(*args)` by this name; one handler for each. What it returns is the answer, when the
        server wants one, and what it raises is answered with `_error`. Handlers run one after the other and may wait."""
        self._handlers[name] = handler

    def on_status(self, handler: StatusHandler) -> None:
        """Call `handler(info)` for every `onStatus` about the connection."""
        self._status_handlers.append(handler)

    # Streams and objects

    def create_stream(self) -> NetStream:
        """A new message stream. Raises CallFailed, StreamError for an answer that is none, TimedOut, ConnectionClosed."""
        answer = self.call("createStream")
        if not isinstance(answer, int | float) or not 0 <= answer < 2**32:
            raise StreamError(f"createStream at {self.url}", text=f"expected a stream id, got {answer!r}")
        stream = self._streams[int(answer)] = NetStream(self, int(answer))
        return stream

    def forget_stream(self, stream: NetStream) -> None:
        """A stream is closed; for NetStream."""
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]

    def shared_object(
        self, name: str, persistent: bool = False, known: SharedObject | None = None
    ) -> SharedObject:
        """The SharedObject of that name, which is asked for when it is not used yet; see its `wait_synced`. A temporary and a
        persistent object of one name are two. `known`: a persistent object as it was when it was last used, on an earlier
        connection for example: the new one begins with that content, and the server may send only what has changed since.
        Raises ConnectionClosed, and ValueError where `known` is another object."""
        key = (name, persistent)
        shared = self._objects.get(key)
        if shared is None:
            if not name or len(name.encode()) > 65_535:
                raise SharedObjectError(
                    f"SharedObject {name[:64]!r} of {self.url}", text="expected 1 to 65535 bytes of name"
                )
            shared = SharedObject(self, name, persistent, known)
            shared.use()
            self._objects[key] = shared
        return shared

    def forget_object(self, shared: SharedObject) -> None:
        """An object is released; for SharedObject."""
        key = (shared.name, shared.persistent)
        if self._objects.get(key) is shared:
            del self._objects[key]

    # What the server sends: all of this runs in the reading greenlet

    def _event(self, event: RtmpEvent) -> None:
        if isinstance(event, Message):
            type_id = event.type_id
            if type_id in MEDIA:
                stream = self._streams.get(event.stream_id)
                if stream is not None:
                    stream.received(event)
            elif type_id in COMMANDS:
                self._command(decode_command(event))
            elif type_id in OBJECTS:
                self._object(event)
        elif isinstance(event, HandshakeCompleted):
            self._send_connect()
        elif isinstance(event, UserControlEvent) and event.event == UserControl.STREAM_EOF:
            stream = self._streams.get(event.value)
            if stream is not None:
                stream.stopped()

    def _send_connect(self) -> None:
        command_object = {
            "app": self._target.app,
            "flashVer": "LNX 9,0,124,2",
            "tcUrl": self._target.tc_url,
            "fpad": False,
            "capabilities": 239.0,
            "audioCodecs": 4095.0,
            "videoCodecs": 252.0,
            "videoFunction": 1.0,
            "objectEncoding": 3.0 if self.amf3 else 0.0,
            **_capabilities(),
            **self._properties,
        }
        try:
            # Always AMF0: the server does not know yet what we speak (RTMP 1.0, 7.2.1.1).
            message = encode_command("connect", _CONNECT_TRANSACTION, command_object, *self._connect_args)
            self.transport.enqueue(message)
        except (LocalProtocolError, ClientError) as error:
            self._answer(Command("_error", _CONNECT_TRANSACTION, None, [str(error)]))

    def _command(self, command: Command) -> None:
        if command.is_answer:
            self._answer(command)
        elif command.name == "onStatus":
            self._status(command)
        else:
            self._called(command)

    def _answer(self, command: Command) -> None:
        entry = self._calls.pop(command.transaction_id, None)
        if entry is None:
            return
        name, answer = entry
        value = command.args[0] if command.args else None
        if command.name == "_error":
            answer.set_exception(CallFailed(f"call of {name!r} at {self.url}", value))
            return
        if command.transaction_id == _CONNECT_TRANSACTION:
            self.server_properties = _fields(command.command_object)
            self.connect_info = self.last_status = _fields(value)
            self.amf3 = self.amf3 and self.connect_info.get("objectEncoding", 3) == 3
        answer.set(value)

    def _status(self, command: Command) -> None:
        info = _fields(command.args[0] if command.args else None)
        stream = self._streams.get(command.stream_id)
        if stream is None and str(info.get("code", "")).startswith("NetStream."):
            # Some servers forget the stream id.
            waiting = [each for each in self._streams.values() if each.waiting]
            stream = waiting[0] if len(waiting) == 1 else None
        if stream is not None:
            stream.status(info)
            return
        self.last_status = info
        for handler in self._status_handlers:
            self.dispatcher.post(handler, info)

    def _called(self, command: Command) -> None:
        handler = self._handlers.get(command.name)
        if handler is not None:
            self.dispatcher.post(self._handle, handler, command)
        elif command.name in _BANDWIDTH:
            # At once, not behind the handlers: the server takes the time.
            self._reply("_result", command, _BANDWIDTH[command.name])
        elif command.transaction_id:
            text = f"this client has no method {command.name[:64]!r}"
            self._reply("_error", command, status(StatusCode.CALL_FAILED, text))

    def _handle(self, handler: Callable[..., object], command: Command) -> None:
        """Runs a handler in the dispatcher's greenlet and answers."""
        try:
            result = handler(*command.args)
        except Exception as error:
            _log.exception("handler of %r failed", command.name[:64])
            self._reply("_error", command, status(StatusCode.CALL_FAILED, f"{type(error).__name__}: {error}"))
        else:
            self._reply("_result", command, result)

    def _reply(self, name: str, command: Command, value: Any) -> None:
        if not command.transaction_id:
            return
        try:
            message = encode_command(name, command.transaction_id, None, value, amf3=self.amf3)
        except LocalProtocolError as error:
            info = status(
                StatusCode.CALL_FAILED, f"the result of {command.name[:64]!r} has no AMF form: {error}"
            )
            message = encode_command("_error", command.transaction_id, None, info, amf3=self.amf3)
        try:
            self.transport.enqueue(message)
        except ConnectionClosed:
            pass  # Nobody waits for it any more.

    def _object(self, message: Message) -> None:
        decoded = decode_shared_object(message, CLIENT_OBJECT_LIMITS)
        shared = self._objects.get((decoded.name, decoded.persistent))
        if shared is None:
            # Some servers do not repeat the flags; never mind unless we use both kinds.
            shared = self._objects.get((decoded.name, not decoded.persistent))
        if shared is not None:
            shared.receive(decoded)

    def _ended(self, transport: Transport) -> None:
        """The connection is over: everybody who waits is told."""
        if transport is not self._transport:
            return  # We were redirected.
        self.closed.set()
        calls, self._calls = self._calls, {}
        for name, answer in calls.values():
            answer.set_exception(
                ConnectionClosed(f"{name!r} at {self.url}: the connection was closed: {self.close_reason}")
            )
        for stream in self._streams.values():
            stream.ended(discard=False)
        for shared in self._objects.values():
            shared.ended()


def _target(asked: str, url: str) -> RtmpUrl:
    """Where a URL leads. Raises ConnectError for one that is none of ours."""
    try:
        target = parse_rtmp_url(url, with_stream=False)
    except ValueError as error:
        raise ConnectError(asked, text=str(error)) from error
    if target.scheme != "rtmp":
        text = f"{url!r}: expected rtmp://HOST, {target.scheme} is not spoken here"
        raise ConnectError(asked, text=text)
    if not target.app:
        raise ConnectError(asked, text=f"{url!r}: expected rtmp://HOST[:PORT]/APP[/INSTANCE]")
    return target


def _fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
