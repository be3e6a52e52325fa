"""What members of a SharedObject are told, in bytes.

Values travel AMF0-framed; an AMF3 client gets each behind the 0x11 marker (FACTS: the body stays AMF0-framed). The requester of
a change gets Success where the others get Change (RTMP 1.0, section 7.1.3).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from headwater_amf import AmfError
from headwater_bus.logs import get_log
from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import EventType, arguments_for, encode_event, encode_header, value_for

from headwater_edge.counters import Counters

_log = get_log("edge")
_CHANGE, _SUCCESS, _SEND = int(EventType.CHANGE), int(EventType.SUCCESS), int(EventType.SEND_MESSAGE)
_CLEAR, _REMOVE = int(EventType.CLEAR), int(EventType.REMOVE)
_AMF0, _AMF3 = int(MessageType.SHARED_OBJECT_AMF0), int(MessageType.SHARED_OBJECT_AMF3)
_CSID = csid_for(_AMF0)

CommitEvents = Sequence[Sequence[Any]]
"""The events of one commit: [event type, key, value] each, see `object_traffic.ObjectUpdate`."""


class ObjectWriter:
    """Encodes the events of one object, for members of either AMF version."""

    __slots__ = ("_chunk_size", "_counters", "_name", "_persistent")

    def __init__(self, name: str, persistent: bool, chunk_size: int, counters: Counters) -> None:
        self._name, self._persistent = name, persistent
        self._chunk_size = chunk_size
        self._counters = counters

    def commit(self, events: CommitEvents, amf3: bool, own: bool = False) -> bytes:
        """A commit as members read it, or (`own`) the one who has asked for it."""
        encode = self._own if own else self._event
        if len(events) == 1:  # The usual case, without a list and a join.
            kind, key, value = events[0]
            return encode(kind, key, value, amf3)
        return b"".join([encode(kind, key, value, amf3) for kind, key, value in events])

    def slot(self, key: str, value: bytes | None, amf3: bool) -> bytes:
        """What a slot holds, or that it is gone."""
        return encode_event(_REMOVE, key) if value is None else self._event(_CHANGE, key, value, amf3)

    def content(self, values: Mapping[str, bytes], amf3: bool) -> bytes:
        """Clear, and a Change for each slot."""
        changes = [self._event(_CHANGE, key, value, amf3) for key, value in values.items()]
        return encode_event(_CLEAR) + b"".join(changes)

    def message(self, events: bytes, version: int, amf3: bool) -> bytes:
        """The chunks of a message that brings who reads it to a version."""
        payload = encode_header(self._name, version, self._persistent, amf3) + events
        return encode_message(Message(_AMF3 if amf3 else _AMF0, 0, 0, payload), _CSID, self._chunk_size)

    def _own(self, kind: int, key: str, value: bytes, amf3: bool) -> bytes:
        """A Remove with a value answers a change to nothing."""
        if kind == _CHANGE or (kind == _REMOVE and value):
            return encode_event(_SUCCESS, key)
        return self._event(kind, key, value, amf3)

    def _event(self, kind: int, key: str, value: bytes, amf3: bool) -> bytes:
        try:
            if kind == _CHANGE:
                return encode_event(kind, key, value_for(value, amf3))
            if kind == _SEND:
                return encode_event(kind, None, arguments_for(value, amf3))
        except (AmfError, RtmpError) as error:
            # The origin checks what clients set; this is an application's, and the others' changes must not suffer.
            self._counters.internal_errors += 1
            _log.error("value not encoded", object=self._name, slot=key, error=str(error))
            return encode_event(_REMOVE, key) if kind == _CHANGE else b""
        return encode_event(kind, key if kind == _REMOVE else None)
