"""SharedObjects on the edge: one update in, one encoding per AMF version, every local member out.

Values travel AMF0-framed; an AMF3 client gets each behind the 0x11 marker (FACTS: the body stays AMF0-framed).
The requester of a change gets Success where the others get Change (RTMP 1.0, section 7.1.3).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwater_rtmp.chunk import csid_for, encode_message
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import EventType, arguments_for, encode_event, encode_header, value_for

from headwater_edge.counters import Counters

if TYPE_CHECKING:
    from headwater_edge.client import Client


def _event(kind: int, key: str, value: bytes, amf3: bool) -> bytes:
    if kind == EventType.CHANGE:
        return encode_event(kind, key, value_for(value, amf3))
    if kind == EventType.SEND_MESSAGE:
        return encode_event(kind, None, arguments_for(value, amf3))
    return encode_event(kind, key if kind in (EventType.REMOVE, EventType.SUCCESS) else None, None)


class ObjectFanout:
    """One SharedObject on this edge and its local members, by session number."""

    __slots__ = ("_chunk_size", "_counters", "_joined", "members", "name", "persistent")

    def __init__(self, name: str, persistent: bool, chunk_size: int, counters: Counters) -> None:
        self.name, self.persistent = name, persistent
        self.members: dict[int, Client] = {}
        self._chunk_size = chunk_size
        self._counters = counters
        self._joined: tuple[int, bool, bytes] | None = None

    def _chunks(self, version: int, events: bytes, amf3: bool) -> bytes:
        payload = encode_header(self.name, version, self.persistent, amf3) + events
        type_id = MessageType.SHARED_OBJECT_AMF3 if amf3 else MessageType.SHARED_OBJECT_AMF0
        return encode_message(Message(type_id, 0, 0, payload), csid_for(type_id), self._chunk_size)

    def join(self, session: int, client: "Client", version: int, slots: Sequence[Any]) -> None:
        """A session uses the object: UseSuccess, Clear and the whole content."""
        self.members[session] = client
        amf3 = client.object_encoding == 3
        if self._joined is None or self._joined[:2] != (version, amf3):
            events = encode_event(EventType.USE_SUCCESS, None, None) + encode_event(
                EventType.CLEAR, None, None
            )
            events += b"".join(_event(EventType.CHANGE, key, value, amf3) for key, value in slots)
            self._joined = (version, amf3, self._chunks(version, events, amf3))
        client.enqueue(self._joined[2])

    def update(self, version: int, events: Sequence[Any]) -> None:
        """Fan one commit out. Members get it in the order of commits, requesters their own answers in place."""
        self._joined = None
        self._counters.object_updates += 1
        self._counters.object_deliveries += len(self.members)
        requesters = {session for _, _, _, session in events if session}
        shared: dict[bool, bytes] = {}
        for session, client in self.members.items():
            amf3 = client.object_encoding == 3
            if session in requesters:
                client.enqueue(self._chunks(version, self._answers(events, session, amf3), amf3))
                continue
            chunks = shared.get(amf3)
            if chunks is None:
                body = b"".join(_event(kind, key, value, amf3) for kind, key, value, _ in events)
                chunks = shared[amf3] = self._chunks(version, body, amf3)
            client.enqueue(chunks)

    @staticmethod
    def _answers(events: Sequence[Any], session: int, amf3: bool) -> bytes:
        parts: list[bytes] = []
        for kind, key, value, requester in events:
            if requester == session and kind == EventType.CHANGE:
                parts.append(_event(EventType.SUCCESS, key, b"", amf3))
            else:
                parts.append(_event(kind, key, value, amf3))
        return b"".join(parts)
