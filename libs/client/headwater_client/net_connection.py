"""NetConnection: a client's connection to an application (RTMP 1.0, section 7.2.1)."""

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from headwater_rtmp.chunk import ChunkLimits
from headwater_rtmp.command import Command, decode_command, encode_command
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.connection import HandshakeCompleted
from headwater_rtmp.control import UserControl, UserControlEvent, set_chunk_size
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.message import COMMANDS, MEDIA, OBJECTS, Message
from headwater_rtmp.status import StatusCode

from headwater_client.calls import CONNECT_TRANSACTION, Call, Calls
from headwater_client.dialing import TlsSettings
from headwater_client.dispatch import Dispatcher
from headwater_client.errors import (
    CallFailed,
    ClientError,
    ConnectError,
    ConnectionClosed,
    StreamError,
)
from headwater_client.net_stream import NetStream
from headwater_client.objects import Objects
from headwater_client.opening import Opening, command_object, target_of
from headwater_client.reconnecting import Reconnecting, worth_while
from headwater_client.server_calls import ServerCalls
from headwater_client.shared_object import SharedObject
from headwater_client.streams import Streams
from headwater_client.transport import CLOSED_HERE, Transport

_MIB = 1024 * 1024
CLIENT_LIMITS = ChunkLimits(
    max_chunk_size=16 * _MIB, media_bytes=16 * _MIB, command_bytes=16 * _MIB, reassembly_bytes=32 * _MIB
)
"""What a client takes from the server that it chose itself: anything a message can hold."""
_CHUNK_SIZE = 60_000
_LINGER_S = 2.0
_TRY_S = 5.0
"""How long one try to connect again takes at most."""
_SETTLE_S = 2.0
"""How long what is under way may take before we leave a server that asks us to."""
_LOOK_S = 0.02
_log = logging.getLogger("headwater_client")

StatusHandler = Callable[[dict[str, Any]], object]


class NetConnection:
    """A connection to `rtmp://HOST[:PORT]/APP[/INSTANCE]`, or rtmps, rtmpt, rtmpts; also a context manager that connects and
    closes.

    `connect_args` go to the application's connect handler, `properties` over the fields of connect's command object.
    `timeout_s` bounds connecting and is what every other wait takes when it is not told. `object_encoding` is 0 (AMF0) or 3
    (AMF3). `digest`: the handshake of Flash Player 9 and later. `queue_bytes` is how much media a stream holds for
    `messages`; when it is full nothing more is read from the connection until some is taken. `follow_redirects`: to so many
    other addresses `connect` goes on, where a server says so. `ca_file` and `insecure` are for rtmps and rtmpts, see
    TlsSettings. `patience_s`: how long rtmpt and rtmpts repeat a request that gets no answer.

    `reconnect`: a connection that is lost is made again, for `reconnect_s` seconds, and goes on where it was: objects are used
    again, streams published and played again, calls and changes without an answer sent again. Meanwhile what sends waits. A call
    or a change may then be carried out twice (see `call`), and what has no answer (`notify`, `send`, media) may get lost. The
    server sees a new client. What the application has ended stays ended.

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
        ca_file: str | None = None,
        insecure: bool = False,
        patience_s: float = 15.0,
        reconnect: bool = False,
        reconnect_s: float = 15.0,
    ) -> None:
        """Raises ConnectError for an address that is none, ValueError for another object encoding."""
        self._target = target_of("connect", url)
        if object_encoding not in (0, 3):
            raise ValueError(f"object_encoding {object_encoding!r}, expected 0 (AMF0) or 3 (AMF3)")
        self.url = url
        self.timeout_s = timeout_s
        self.amf3 = object_encoding == 3
        """Whether AMF3 is spoken."""
        self.closed = Event()
        """Set when the connection is over, whoever has ended it."""
        self.reconnects = 0
        """How often the connection was made again."""
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
        self._opening = Opening(limits, digest, TlsSettings(ca_file, insecure), patience_s)
        self._follow_redirects = follow_redirects
        self._reconnecting = Reconnecting(
            reconnect_s if reconnect else 0.0, self._connect_again, self._restore, self._over
        )
        self._transport: Transport | None = None
        self._connecting = self._moving = self._leaving = False
        self._up = Event()  # Messages may be sent, or never more.
        self._close_reason = ""
        self._calls = Calls()
        self._server_calls = ServerCalls(self.dispatcher)
        self._status_handlers: list[StatusHandler] = []
        self._reconnect_handlers: list[Callable[[], object]] = []
        self.streams = Streams()
        """For the parts of this package."""
        self.objects = Objects(self)
        """Likewise."""

    def __repr__(self) -> str:
        if self.closed.is_set():
            state = "closed"
        elif self._transport is None:
            state = "not connected"
        else:
            state = "open" if self._up.is_set() else "connecting"
        return f"<NetConnection {self.url} {state}>"

    # Connecting and closing

    def connect(self) -> None:
        """Connect and wait until the application accepts. Raises ConnectError with the server's code and description; a
        NetConnection connects once. After a redirect `url` is the address where it has ended."""
        if self._transport is not None:
            raise ConnectError(
                f"connect to {self.url}", text="it was connected before; make another NetConnection"
            )
        try:
            self._establish(time.monotonic() + self.timeout_s)
        except ConnectError:
            if self._transport is not None:
                self._over()
            raise
        self._up.set()

    def _establish(self, deadline: float) -> None:
        for redirects_left in range(self._follow_redirects, -1, -1):
            try:
                self._connect(deadline)
            except ConnectError as error:
                if error.redirect is None or not redirects_left:
                    raise
                self._target = target_of(f"connect to {self.url}, redirected", error.redirect)
                self.url = error.redirect
            else:
                return

    def _connect(self, deadline: float) -> None:
        """Connect to `_target`."""
        asked = f"connect to {self.url}"
        transport = self._opening.open(self._target, asked, deadline, self._event, self._ended)
        self._transport, self._connecting = transport, True
        self.last_status = {}
        call = self._calls.add(CONNECT_TRANSACTION, Call("connect"))
        accepted = False
        try:
            transport.start()
            call.answer.get(timeout=max(0.0, deadline - time.monotonic()))
            transport.enqueue(set_chunk_size(_CHUNK_SIZE))
            accepted = True
        except gevent.Timeout:
            to_what = "connect" if transport.rtmp.handshaken else "the handshake"
            raise ConnectError(asked, text=f"no answer to {to_what} within {self.timeout_s:g} s") from None
        except CallFailed as failed:
            raise ConnectError(asked, failed.info) from None
        except ConnectionClosed:
            code, text = self.last_status.get("code"), transport.reason
            raise ConnectError(asked, text=f"{code}: {text}" if code else text) from None
        finally:
            if not accepted:
                transport.close()
            self._connecting = False

    def close(self) -> None:
        """Send what is queued (for `timeout_s` at most) and close. What waits for an answer fails with ConnectionClosed; streams
        end."""
        self._leaving = True
        self._reconnecting.stop()
        self.streams.ended(discard=True)  # A full queue must not keep the reader from seeing the end.
        if self._transport is not None:
            self._transport.close(self.timeout_s, _LINGER_S)
        if not self.closed.is_set():
            self._over()

    def __enter__(self) -> "NetConnection":
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def close_reason(self) -> str:
        """Why it was closed; empty while it is not. Begins with the server's last word, if that was one about closing."""
        return self._close_reason if self.closed.is_set() else ""

    def _reason(self) -> str:
        reason = self._transport.reason if self._transport is not None else "never connected"
        code = str(self.last_status.get("code", ""))
        if code.startswith("NetConnection.Connect.") and code != StatusCode.CONNECT_SUCCESS:
            return ": ".join(
                part for part in (code, str(self.last_status.get("description", "")), reason) if part
            )
        return reason

    @property
    def transport(self) -> Transport:
        """What carries the messages now; for the parts of this package. Raises ConnectionClosed when there is none."""
        if self._transport is None:
            raise ConnectionClosed(f"{self.url}: not connected: call connect() first")
        if self.closed.is_set() or not self._up.is_set():
            reason = self._close_reason or self._transport.reason or "not connected yet"
            raise ConnectionClosed(f"{self.url}: the connection is closed: {reason}")
        return self._transport

    def ready(self) -> Transport:
        """What carries the messages, when there is room for one: waits while a lost connection is made again, too. As long as the
        caller does not wait it stays so; for the parts of this package. Raises ConnectionClosed."""
        while True:
            if self._transport is not None and not self.closed.is_set():
                self._up.wait()
            transport = self.transport
            try:
                transport.wait_for_room()
            except ConnectionClosed:
                if not self._reconnecting.enabled or self._leaving:
                    raise
                transport.closed.wait()
            else:
                if transport is self._transport and self._up.is_set():
                    return transport

    # When a connection is lost

    def _ended(self, transport: Transport) -> None:
        """What carries our messages is over."""
        if transport is not self._transport:
            return
        self._calls.fail_connect(transport.reason)
        if self._connecting or self.closed.is_set():
            return  # Who connects goes on, or gives up.
        moving, self._moving = self._moving, False
        lost = transport.reason != CLOSED_HERE and worth_while(str(self.last_status.get("code", "")))
        if not self._reconnecting.enabled or self._leaving or not (moving or lost):
            self._over()
            return
        self._up.clear()
        self._calls.fail(self.url, self._reason(), only_once=True)
        self.streams.suspend()
        _log.info("%s: %s; connecting again", self.url, self._reason())
        self._reconnecting.begin(self._reason())

    def _over(self, reason: str = "") -> None:
        """The connection is over: everybody who waits is told."""
        self._close_reason = reason or (
            CLOSED_HERE if self._leaving and not self._up.is_set() else self._reason()
        )
        self.closed.set()
        self._up.set()
        self._calls.fail(self.url, self._close_reason)
        self.streams.ended(discard=False)
        self.objects.ended()

    def _connect_again(self, deadline: float) -> None:
        """One try. Raises ConnectError."""
        self._establish(min(deadline, time.monotonic() + min(self.timeout_s, _TRY_S)))

    def _restore(self) -> None:
        """Connected again: what was is to be again. Nothing of others comes in between, as nothing here waits."""
        transport = self._transport
        assert transport is not None
        try:
            self.objects.use_again(transport)
            for message in self._calls.to_repeat():
                transport.enqueue(message)
        except ConnectionClosed:
            return  # It is lost already, and will be made again.
        self.reconnects += 1
        self._up.set()
        self.streams.resume(self._reconnecting.for_s)
        for handler in self._reconnect_handlers:
            self.dispatcher.post(handler)

    def _move(self, transport: Transport, info: dict[str, Any]) -> None:
        """Greenlet: the server asks us to connect again, maybe elsewhere (Enhanced RTMP v2, ReconnectRequest). What is under way
        may end before."""
        self._up.clear()
        until = time.monotonic() + _SETTLE_S
        while self._unanswered and time.monotonic() < until and not transport.closed.is_set():
            gevent.sleep(_LOOK_S)
        if transport.closed.is_set():
            return
        url = info.get("tcUrl")
        if isinstance(url, str) and url:
            try:
                self._target = target_of("reconnect", url)
                self.url = url
            except ConnectError as error:
                _log.warning("%s: not followed: %s", self.url, error)
        self._moving = True
        transport.close(_SETTLE_S, _LINGER_S)

    @property
    def _unanswered(self) -> int:
        return len(self._calls) + self.objects.unanswered

    def on_reconnect(self, handler: Callable[[], object]) -> None:
        """Call `handler()` each time the connection was made again."""
        self._reconnect_handlers.append(handler)

    # Calls

    def call(self, name: str, *args: Any, timeout_s: float | None = None, once: bool = False) -> Any:
        """Call a method of the application and wait for its result. With `reconnect`, a call whose connection is lost is sent
        again, though the application may have carried it out; `once`: it fails instead, with ConnectionClosed, and whether it was
        carried out is not known. Raises CallFailed with the server's info object, TimedOut, ConnectionClosed."""
        return self._call(name, args, timeout_s, once)[1]

    def _call(
        self, name: str, args: tuple[Any, ...], timeout_s: float | None = None, once: bool = False
    ) -> tuple[Transport, Any]:
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        transport = self.ready()
        transaction = self._calls.next_transaction()
        message = self._encode(name, transaction, args)
        transport.enqueue(message)
        return self._calls.wait(transaction, Call(name, message, once), timeout_s, self.url)

    def notify(self, name: str, *args: Any) -> None:
        """Call a method of the application that does not answer. Raises ConnectionClosed."""
        self.ready().enqueue(self._encode(name, 0, args))

    def stream_command(self, stream_id: int, name: str, *args: Any) -> Message:
        """A command on a message stream, without an answer of its own; for NetStream. Raises ClientError."""
        return self._encode(name, 0, args, stream_id)

    def _encode(self, name: str, transaction: float, args: tuple[Any, ...], stream_id: int = 0) -> Message:
        try:
            return encode_command(name, transaction, None, *args, stream_id=stream_id, amf3=self.amf3)
        except LocalProtocolError as error:
            raise ClientError(f"{name!r} at {self.url}: {error}") from error

    def on(self, name: str, handler: Callable[..., object]) -> None:
        """Let the server call `handler(*args)` by this name; one handler for each. What it returns is the answer, when the
        server wants one, and what it raises is answered with `_error`. Handlers run one after the other and may wait."""
        self._server_calls.handlers[name] = handler

    def on_status(self, handler: StatusHandler) -> None:
        """Call `handler(info)` for every `onStatus` about the connection."""
        self._status_handlers.append(handler)

    # Streams and objects

    def create_stream(self) -> NetStream:
        """A new message stream. Raises CallFailed, StreamError for an answer that is none, TimedOut, ConnectionClosed."""
        stream = NetStream(self)
        self.assign_id(stream)
        return stream

    def assign_id(self, stream: NetStream) -> None:
        """Have the server make a message stream, for NetStream. Raises as `create_stream`."""
        while True:
            transport, answer = self._call("createStream", ())
            if not isinstance(answer, int | float) or not 0 <= answer < 2**32:
                raise StreamError(f"createStream at {self.url}", text=f"expected a stream id, got {answer!r}")
            if transport is self._transport and (not transport.closed.is_set() or self.closed.is_set()):
                # Otherwise that server's ids are worth nothing any more.
                stream.id = int(answer)
                self.streams.add(stream)
                return

    @property
    def may_reconnect(self) -> bool:
        """Whether a lost connection is made again."""
        return self._reconnecting.enabled

    def shared_object(
        self, name: str, persistent: bool = False, known: SharedObject | None = None
    ) -> SharedObject:
        """The SharedObject of that name, which is asked for when it is not used yet; see its `wait_synced`. A temporary and a
        persistent object of one name are two. `known`: a persistent object as it was when it was last used, on an earlier
        connection for example: the new one begins with that content, and the server may send only what has changed since.
        Raises ConnectionClosed, and ValueError where `known` is another object."""
        return self.objects.use(name, persistent, known)

    # What the server sends: all of this runs in the reading greenlet

    def _event(self, transport: Transport, event: RtmpEvent) -> None:
        if transport is not self._transport:
            return  # Of a connection that we have left.
        if isinstance(event, Message):
            type_id = event.type_id
            if type_id in MEDIA:
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.received(event)
            elif type_id in COMMANDS:
                self._command(transport, decode_command(event))
            elif type_id in OBJECTS:
                self.objects.receive(event)
        elif isinstance(event, HandshakeCompleted):
            self._send_connect(transport)
        elif isinstance(event, UserControlEvent) and event.event == UserControl.STREAM_EOF:
            stream = self.streams.get(event.value)
            if stream is not None:
                stream.stopped()

    def _send_connect(self, transport: Transport) -> None:
        first = command_object(self._target, self.amf3, self._reconnecting.enabled) | self._properties
        try:
            # Always AMF0: the server does not know yet what we speak (RTMP 1.0, 7.2.1.1).
            transport.enqueue(encode_command("connect", CONNECT_TRANSACTION, first, *self._connect_args))
        except (LocalProtocolError, ClientError) as error:
            self._answer(transport, Command("_error", CONNECT_TRANSACTION, None, [str(error)]))

    def _command(self, transport: Transport, command: Command) -> None:
        if command.is_answer:
            self._answer(transport, command)
        elif command.name == "onStatus":
            self._status(transport, command)
        else:
            self._server_calls.called(transport, command, self.amf3)

    def _answer(self, transport: Transport, command: Command) -> None:
        call = self._calls.pop(command.transaction_id)
        if call is None:
            return
        value = command.args[0] if command.args else None
        if command.name == "_error":
            call.answer.set_exception(CallFailed(f"call of {call.name!r} at {self.url}", value))
            return
        if command.transaction_id == CONNECT_TRANSACTION:
            self.server_properties = _fields(command.command_object)
            self.connect_info = self.last_status = _fields(value)
            self.amf3 = self.amf3 and self.connect_info.get("objectEncoding", 3) == 3
        call.answer.set((transport, value))

    def _status(self, transport: Transport, command: Command) -> None:
        info = _fields(command.args[0] if command.args else None)
        stream = self.streams.get(command.stream_id)
        if stream is None and str(info.get("code", "")).startswith("NetStream."):
            stream = self.streams.only_waiting()
        if stream is not None:
            stream.status(info)
            return
        self.last_status = info
        for handler in self._status_handlers:
            self.dispatcher.post(handler, info)
        if info.get("code") == StatusCode.CONNECT_RECONNECT_REQUEST and self._reconnecting.enabled:
            gevent.spawn(self._move, transport, info)


def _fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
