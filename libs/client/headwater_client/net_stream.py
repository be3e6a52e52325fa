"""NetStream: a message stream that publishes or plays (RTMP 1.0, section 7.2.2)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import gevent
from gevent.event import AsyncResult, Event
from headwater_amf import EcmaArray
from headwater_rtmp.command import encode_data
from headwater_rtmp.control import set_buffer_length
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.status import StatusCode, status

from headwater_client import flv_files
from headwater_client.continuing import Played, Published
from headwater_client.errors import CallFailed, ConnectionClosed, StreamError, TimedOut
from headwater_client.media_queue import Ending, MediaQueue
from headwater_client.reconnecting import Backoff
from headwater_client.transport import CLOSED_HERE, Transport

if TYPE_CHECKING:
    from headwater_client.net_connection import NetConnection

_MASK32 = 0xFFFFFFFF
_BUFFER_MS = 3000
_LIVE_OR_RECORDED = -2.0
_STOPPED = (StatusCode.PLAY_UNPUBLISH_NOTIFY, StatusCode.PLAY_STOP)
_ENDS_PUBLISHING = ("NetStream.Publish.", StatusCode.STREAM_FAILED)
_PASSING = frozenset((StatusCode.PUBLISH_BAD_NAME, StatusCode.PLAY_STREAM_NOT_FOUND))
"""What a server answers while it has not noticed yet that we, or the publisher, are on a new connection."""

FlvFile = str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the stream does: the command, and the status that says that it is done."""

    command: str
    code: StatusCode
    args: tuple[Any, ...]


class NetStream:
    """Made by `NetConnection.create_stream`; publishes or plays one stream at a time. Also a context manager that closes.

    `send_*` wait while the socket is full. They raise ConnectionClosed when the connection is, and StreamError after the
    server has ended the publication with an error. Times are milliseconds, modulo 2**32.
    """

    def __init__(self, connection: "NetConnection") -> None:
        self._connection = connection
        self.id = 0
        """Of the message stream; another one after a reconnection."""
        self.name = ""
        """What is published or played."""
        self.last_status: dict[str, Any] = {}
        """The last `onStatus` about this stream."""
        self.ending: Ending | None = None
        """Why the last `messages` ended."""
        self._closed = False
        self._failure: dict[str, Any] | None = None
        self._waiting_for: StatusCode | None = None
        self._answer: AsyncResult[dict[str, Any]] = AsyncResult()
        self._queue = MediaQueue(connection.queue_bytes)
        self._status_handlers: list[Callable[[dict[str, Any]], object]] = []
        self._doing: _Asked | None = None
        self._published: Published | None = None
        self._played: Played | None = None
        self._wishes: dict[str, tuple[Any, ...]] = {}
        """What a player has asked for since, by command."""
        self._usable = Event()
        self._usable.set()
        self._resuming: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<NetStream {self.id} {self.name!r} of {self._connection.url}>"

    @property
    def queued_bytes(self) -> int:
        """What was received and waits to be taken from `messages`."""
        return self._queue.queued_bytes

    @property
    def url(self) -> str:
        """Of the connection."""
        return self._connection.url

    # Publishing

    def publish(self, name: str, kind: str = "live", timeout_s: float | None = None) -> None:
        """Publish under a name and wait for `NetStream.Publish.Start`. `kind`: `live`; some servers know `record` and `append`.
        Raises StreamError with the server's code (`BadName`: somebody publishes it), TimedOut, ConnectionClosed."""
        self._failure = None
        self._published, self._played = Published() if self._connection.may_reconnect else None, None
        self._wishes.clear()
        self._ask("publish", StatusCode.PUBLISH_START, timeout_s, name, kind)

    def send_metadata(self, metadata: dict[str, Any]) -> None:
        """Tell what the stream is (`onMetaData`): to players who are there, and by the server to those who come."""
        self._send_values(0, False, "@setDataFrame", "onMetaData", EcmaArray(metadata))

    def send_video(self, payload: bytes, timestamp_ms: int) -> None:
        """A video message: the body of an FLV video tag, legacy or Enhanced RTMP."""
        self.send_message(Message(MessageType.VIDEO, self.id, timestamp_ms, payload))

    def send_audio(self, payload: bytes, timestamp_ms: int) -> None:
        """An audio message: the body of an FLV audio tag, legacy or Enhanced RTMP."""
        self.send_message(Message(MessageType.AUDIO, self.id, timestamp_ms, payload))

    def send_data(self, name: str, *values: Any, timestamp_ms: int = 0) -> None:
        """A data message: players' handlers of that name get the values."""
        self._send_values(timestamp_ms, self._connection.amf3, name, *values)

    def _send_values(self, timestamp_ms: int, amf3: bool, *values: Any) -> None:
        try:
            message = encode_data(*values, stream_id=self.id, amf3=amf3, timestamp=timestamp_ms & _MASK32)
        except LocalProtocolError as error:
            raise StreamError(f"data on {self._named}", text=str(error)) from error
        self.send_message(message)

    def send_message(self, message: Message) -> None:
        """Any message, on this stream. After a reconnection video goes on at the next keyframe; what is before it is dropped."""
        transport = self._ready()
        message = Message(message.type_id, self.id, message.timestamp & _MASK32, message.payload)
        if self._published is None or self._published.takes(message):
            transport.enqueue(message)

    def publish_file(
        self,
        source: FlvFile,
        name: str,
        realtime: bool = True,
        loop: bool = False,
        duration_s: float | None = None,
        progress: flv_files.ProgressHandler | None = None,
    ) -> flv_files.Progress:
        """Publish an FLV file (a path or a binary file) under a name; returns when all of it is sent and leaves the stream
        published. `realtime`: as fast as its timestamps say, otherwise as fast as the server takes it. `loop`: over and over;
        `duration_s` of media at most. `progress` is called a few times a second. Raises as `publish` and `send_message` do,
        StreamError for a file that is not FLV or holds nothing, OSError."""
        with flv_files.FlvSource(source) as tags:
            self.publish(name)
            return flv_files.send_file(self, tags, realtime, loop, duration_s, progress)

    # Playing

    def play(self, name: str, timeout_s: float | None = None) -> None:
        """Play a stream and wait for `NetStream.Play.Start`; see `messages`. Raises StreamError with the server's code
        (`StreamNotFound`: nobody publishes it), TimedOut, ConnectionClosed."""
        self._failure = None
        transport = self._ready()
        transport.enqueue(set_buffer_length(self.id, _BUFFER_MS))
        self._queue.restart()
        self._published, self._played = None, Played() if self._connection.may_reconnect else None
        self._wishes.clear()
        self._ask("play", StatusCode.PLAY_START, timeout_s, name, _LIVE_OR_RECORDED)

    def messages(self, timeout_s: float | None = 10.0) -> Iterator[Message]:
        """Audio, video and data messages as they come. Ends when nothing came for `timeout_s` (None: wait for ever), when
        the stream is stopped or not published any more, and when it or the connection is closed; `ending` says which.
        Called again it goes on: players stay when a publisher leaves and returns."""
        self.ending = None
        while isinstance(message := self._queue.get(timeout_s), Message):
            yield message
        self.ending = message

    def record(
        self,
        target: FlvFile,
        duration_s: float | None = None,
        timeout_s: float = 10.0,
        progress: flv_files.ProgressHandler | None = None,
    ) -> flv_files.Progress:
        """Write what is played into an FLV file (a path or a binary file), with timestamps from 0, until the stream ends,
        nothing came for `timeout_s`, or `duration_s` of media are written. Raises TimedOut when nothing came at all,
        ConnectionClosed when the connection was lost (what came is in the file), OSError."""
        return flv_files.record(self, target, duration_s, timeout_s, progress)

    def pause(self, paused: bool = True) -> None:
        """Have the server send nothing for a while, or go on. Raises ConnectionClosed."""
        self._wish("pause", paused, 0.0)

    def receive_audio(self, wanted: bool) -> None:
        """Whether the server sends audio. Raises ConnectionClosed."""
        self._wish("receiveAudio", wanted)

    def receive_video(self, wanted: bool) -> None:
        """Whether the server sends video. Raises ConnectionClosed."""
        self._wish("receiveVideo", wanted)

    # Both

    def on_status(self, handler: Callable[[dict[str, Any]], object]) -> None:
        """Call `handler(info)` for every `onStatus` about this stream."""
        self._status_handlers.append(handler)

    def close(self) -> None:
        """End what the stream does, at the server too. Messages that were not taken are dropped."""
        if self._closed:
            return
        self._closed = True
        self._queue.close(discard=True)
        self._connection.streams.forget(self)
        if self._resuming is not None:
            self._resuming.kill(block=False)
        self._usable.set()
        try:
            delete = self._connection.stream_command(0, "deleteStream", float(self.id))
            self._connection.transport.enqueue(delete)
        except ConnectionClosed:
            pass  # Then the server has ended it.

    def __enter__(self) -> "NetStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _named(self) -> str:
        return f"stream {self.name!r} of {self.url}" if self.name else f"a stream of {self.url}"

    def check_not_lost(self) -> None:
        """Raises ConnectionClosed when the connection is over and it was not we who closed it."""
        if self._connection.closed.is_set() and self._connection.close_reason != CLOSED_HERE:
            self._check_usable()

    def _check_usable(self) -> None:
        if self._closed:
            raise StreamError(self._named, text="it was closed here")
        if self._connection.closed.is_set():
            raise ConnectionClosed(
                f"{self._named}: the connection is closed: {self._connection.close_reason}"
            )
        if self._failure is not None:
            raise StreamError(self._named, self._failure)

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until the connection is closed; returns whether it is."""
        return bool(self._connection.closed.wait(timeout_s))

    def _ready(self) -> Transport:
        """What carries the messages, as `NetConnection.ready`, when the stream is there. Raises StreamError, ConnectionClosed."""
        while True:
            self._check_usable()
            self._usable.wait()
            transport = self._connection.ready()
            if self._usable.is_set():
                self._check_usable()
                return transport

    def _wish(self, command: str, *args: Any) -> None:
        transport = self._ready()
        self._wishes[command] = args
        transport.enqueue(self._connection.stream_command(self.id, command, *args))

    def _ask(self, what: str, code: StatusCode, timeout_s: float | None, name: str, *args: Any) -> None:
        """Send a command that is answered with a status, and wait for it."""
        asked = f"{what} of {name!r} at {self.url}"
        timeout_s = self._connection.timeout_s if timeout_s is None else timeout_s
        transport = self._ready()
        if self._waiting_for is not None:
            raise StreamError(asked, text=f"the stream waits for {self._waiting_for} already")
        try:
            self.name = name
            self._waiting_for = code
            self._answer = AsyncResult()
            self._doing = _Asked(what, code, (name, *args))
            transport.enqueue(self._connection.stream_command(self.id, what, name, *args))
            info = self._answer.get(timeout=timeout_s) or {}
        except gevent.Timeout:
            self._doing = None
            raise TimedOut(f"{asked}: no {code} within {timeout_s:g} s") from None
        except ConnectionClosed as error:
            raise ConnectionClosed(f"{asked}: {error}") from None
        finally:
            self._waiting_for = None
        if info.get("code") != code:
            self._doing = None
            raise StreamError(asked, info)

    # Called by the connection, in its reading greenlet

    @property
    def waiting(self) -> bool:
        """Whether publish or play waits for an answer."""
        return self._waiting_for is not None

    def received(self, message: Message) -> None:
        """An audio, video or data message; waits when the queue is full."""
        if self._played is None or self._played.takes(message):
            self._queue.put(message)

    def stopped(self) -> None:
        """Nothing comes for now."""
        self._queue.stop()

    def status(self, info: dict[str, Any]) -> None:
        """An `onStatus` about this stream."""
        self.last_status = info
        code = str(info.get("code", ""))
        failed = info.get("level") == "error"
        if code in _STOPPED:
            self._queue.stop()
        if self._waiting_for is not None and (failed or code == self._waiting_for):
            self._answer.set(info)
        elif failed and code.startswith(_ENDS_PUBLISHING):
            self._failure = info
        for handler in self._status_handlers:
            self._connection.dispatcher.post(handler, info)

    def ended(self, discard: bool) -> None:
        """The connection is closed, or about to be."""
        self._queue.close(discard)
        if self._waiting_for is not None and not self._answer.ready():
            self._answer.set_exception(ConnectionClosed(self._connection.close_reason or "closed here"))
        self._usable.set()

    # Reconnecting

    def suspend(self) -> None:
        """The connection is lost; the server's message stream with it."""
        self._usable.clear()
        if self._resuming is not None:
            self._resuming.kill(block=False)

    def resume(self, for_s: float) -> None:
        """There is a connection again: have the server do what it did. For so long it is asked again where it refuses."""
        self._resuming = gevent.spawn(self._resume, Backoff(for_s))

    def _resume(self, backoff: Backoff) -> None:
        """Greenlet. When this connection is lost, too, it ends, and begins anew with the next one."""
        info: dict[str, Any] = {}
        try:
            while backoff.pause():
                try:
                    if not self._connection.streams.knows(self):
                        self._connection.assign_id(self)
                    info = {} if self._doing is None else self._ask_again(self._doing)
                except TimedOut:
                    continue
                if self._doing is None or info.get("code") == self._doing.code:
                    self._usable.set()
                    return
                if info.get("code") not in _PASSING:
                    break
        except ConnectionClosed:
            return
        except (CallFailed, StreamError) as error:
            info = error.info
        text = "it could not be resumed on another connection"
        self._failure = info or status(StatusCode.STREAM_FAILED, text)
        self._doing = None
        self._queue.stop()
        self._usable.set()

    def _ask_again(self, asked: _Asked) -> dict[str, Any]:
        """What the stream did, on a new message stream. Raises TimedOut, ConnectionClosed."""
        transport = self._connection.ready()
        first = self._waiting_for is None or self._answer.ready()
        if first:
            # Otherwise whoever asked still waits: the answer is theirs.
            self._waiting_for, self._answer = asked.code, AsyncResult()
        answer = self._answer
        try:
            transport.enqueue(set_buffer_length(self.id, _BUFFER_MS))
            if self._played is not None:
                self._played.again()
            transport.enqueue(self._connection.stream_command(self.id, asked.command, *asked.args))
            info = answer.get(timeout=self._connection.timeout_s) or {}
        except gevent.Timeout:
            raise TimedOut(f"{self._named}: no {asked.code}") from None
        finally:
            if first:
                self._waiting_for = None
        if info.get("code") == asked.code:
            transport = self._connection.transport
            for command, args in self._wishes.items():
                transport.enqueue(self._connection.stream_command(self.id, command, *args))
            if self._published is not None:
                for message in self._published.again():
                    transport.enqueue(Message(message.type_id, self.id, message.timestamp, message.payload))
        return info
