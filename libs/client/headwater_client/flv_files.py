"""FLV files for NetStream: publish from one, record into one."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.flv import FlvReader, FlvWriter
from headwater_rtmp.media import MediaFlags, add_set_data_frame, inspect, values_at
from headwater_rtmp.message import DATA, Message, MessageType

from headwater_client.errors import StreamError, TimedOut
from headwater_client.media_queue import Ending

if TYPE_CHECKING:
    from headwater_client.net_stream import NetStream

_READ_BYTES = 64 * 1024
_MASK32 = 0xFFFFFFFF
_PROGRESS_EVERY_S = 0.2
_FOR_THE_PLAYER = (b"\x02\x00\x11|RtmpSampleAccess", b"\x02\x00\x08onStatus")
"""Data messages that a server says to a player; not part of the stream."""
_FLAGS_AT = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far publishing or recording has come: messages, the bytes of their payloads, the time that the media has
    reached, and the time that passed."""

    messages: int = 0
    payload_bytes: int = 0
    media_ms: int = 0
    elapsed_s: float = 0.0


ProgressHandler = Callable[[Progress], object]


class _Meter:
    """Counts messages and tells a handler now and then."""

    def __init__(self, handler: ProgressHandler | None) -> None:
        self._handler = handler
        self._started = self._told = time.monotonic()
        self._messages = self._bytes = self.media_ms = 0

    def count(self, message: Message, media_ms: int) -> None:
        self._messages += 1
        self._bytes += len(message.payload)
        self.media_ms = max(self.media_ms, media_ms)
        if self._handler is not None and (now := time.monotonic()) - self._told >= _PROGRESS_EVERY_S:
            self._told = now
            self._handler(self.progress())

    @property
    def empty(self) -> bool:
        return not self._messages

    def progress(self) -> Progress:
        return Progress(self._messages, self._bytes, self.media_ms, time.monotonic() - self._started)

    def finish(self) -> Progress:
        progress = self.progress()
        if self._handler is not None:
            self._handler(progress)
        return progress


class FlvSource:
    """The tags of an FLV file, which is closed at the end when a path was given. Raises StreamError at once for what is no
    FLV file, or one without tags."""

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._owned = isinstance(source, str | os.PathLike)
        self._file: BinaryIO = open(source, "rb") if isinstance(source, str | os.PathLike) else source  # noqa: SIM115 - closed by close()
        self.name = str(source) if self._owned else str(getattr(source, "name", "the file"))
        self._reader = FlvReader()
        try:
            self._start = self._file.tell() if self._file.seekable() else None
            self._first = self._next()
            if self._first is None:
                raise StreamError(
                    f"publish of {self.name}", text="expected an FLV file with tags, found none"
                )
        except BaseException:
            self.close()
            raise

    def _next(self) -> Message | None:
        try:
            while (tag := self._reader.next_tag()) is None:
                data = self._file.read(_READ_BYTES)
                if not data:
                    return (
                        None  # A tag that the file holds only the begin of is left out, as other readers do.
                    )
                self._reader.feed(data)
            return tag
        except RemoteProtocolError as error:
            raise StreamError(f"publish of {self.name}", text=str(error)) from error

    def __iter__(self) -> Iterator[Message]:
        tag, self._first = self._first, None
        while tag is not None:
            yield tag
            tag = self._next()

    def rewind(self) -> None:
        """From the first tag again. Raises StreamError for what cannot seek."""
        if self._start is None:
            raise StreamError(f"publish of {self.name}", text="a loop needs a file that can seek")
        self._file.seek(self._start)
        self._reader = FlvReader()
        self._first = self._next()

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> "FlvSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send_file(
    stream: "NetStream",
    tags: FlvSource,
    realtime: bool,
    loop: bool,
    duration_s: float | None,
    handler: ProgressHandler | None,
) -> Progress:
    """Send the tags of a file on a stream that publishes. Time begins at 0 and goes on through the loops."""
    meter = _Meter(handler)
    started = time.monotonic()
    most_ms = None if duration_s is None else duration_s * 1000
    offset_ms = step_ms = 0
    while True:
        timeline = _Timeline()
        last_ms = offset_ms
        for tag in tags:
            media_ms = offset_ms + timeline.place(tag)
            if most_ms is not None and media_ms >= most_ms:
                return meter.finish()
            if media_ms > last_ms:
                last_ms, step_ms = media_ms, media_ms - last_ms
            if realtime:
                _wait_until(stream, started + media_ms / 1000)
            stream.send_message(Message(tag.type_id, 0, media_ms & _MASK32, add_set_data_frame(tag).payload))
            meter.count(tag, media_ms)
        if not loop:
            return meter.finish()
        if last_ms == offset_ms:
            raise StreamError(
                f"publish of {tags.name}", text="a loop needs a file that lasts longer than 0 ms"
            )
        # Between the last message and the first of the next round passes what passed before the last one.
        offset_ms = last_ms + step_ms
        tags.rewind()


class _Timeline:
    """Time from 0, which is the first message with a coded frame. What stands before it (headers, often with a time of 0,
    while the frames of a live stream are hours later) or is older than it gets 0, too."""

    def __init__(self) -> None:
        self._base: int | None = None

    def place(self, message: Message) -> int:
        """The time of a message in ms."""
        if self._base is None:
            if message.type_id in DATA or inspect(message).flags & (
                MediaFlags.SEQUENCE_HEADER | MediaFlags.METADATA
            ):
                return 0
            self._base = message.timestamp
        passed = (message.timestamp - self._base) & _MASK32
        return passed if passed < 0x80000000 else 0


def _wait_until(stream: "NetStream", moment: float) -> None:
    delay = moment - time.monotonic()
    if delay > 0:
        stream.wait_closed(delay)  # What is sent next says that it is closed.


class FlvRecorder:
    """Writes messages into an FLV file with timestamps from 0. The header says
    audio and video until `finish` knows better, and keeps saying so in a file that cannot seek."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer = FlvWriter()
        self._start = file.tell() if file.seekable() else None
        self._timeline = _Timeline()
        self._types: set[int] = set()
        file.write(self._writer.header())

    def add(self, message: Message) -> int | None:
        """Write a message; returns its time in the file in ms, or None for what is not part of the stream."""
        payload = message.payload
        if message.type_id in DATA and payload.startswith(_FOR_THE_PLAYER, values_at(message)):
            return None
        media_ms = self._timeline.place(message)
        self._types.add(message.type_id)
        self._file.write(self._writer.tag(Message(message.type_id, 0, media_ms, payload)))
        return media_ms

    def finish(self) -> None:
        """Write into the header what the file holds."""
        if self._start is not None:
            end = self._file.tell()
            header = self._writer.header(MessageType.AUDIO in self._types, MessageType.VIDEO in self._types)
            self._file.seek(self._start + _FLAGS_AT)
            self._file.write(header[_FLAGS_AT : _FLAGS_AT + 1])
            self._file.seek(end)
        self._file.flush()


def record(
    stream: "NetStream",
    target: str | os.PathLike[str] | BinaryIO,
    duration_s: float | None,
    timeout_s: float,
    handler: ProgressHandler | None,
) -> Progress:
    """See `NetStream.record`."""
    if isinstance(target, str | os.PathLike):
        with open(target, "wb") as file:
            return record(stream, file, duration_s, timeout_s, handler)
    meter = _Meter(handler)
    recorder = FlvRecorder(target)
    try:
        for message in stream.messages(timeout_s):
            media_ms = recorder.add(message)
            if media_ms is not None:
                meter.count(message, media_ms)
                if duration_s is not None and media_ms >= duration_s * 1000:
                    return meter.finish()
    finally:
        recorder.finish()
    if stream.ending == Ending.CLOSED:
        stream.check_not_lost()
    if meter.empty and stream.ending == Ending.TIMED_OUT:
        raise TimedOut(f"play of {stream.name!r} at {stream.url}: nothing came within {timeout_s:g} s")
    return meter.finish()
