"""Limits of the chunk layer against peers that make us hold more than they send."""

from dataclasses import dataclass
from functools import lru_cache

from headwater_rtmp.message import MessageType

_KIB = 1024
_MIB = 1024 * 1024

MEDIA_TYPES = frozenset((MessageType.AUDIO, MessageType.VIDEO, MessageType.AGGREGATE))
_CONTROL_TYPES = frozenset(
    (
        MessageType.SET_CHUNK_SIZE,
        MessageType.ABORT,
        MessageType.ACKNOWLEDGEMENT,
        MessageType.USER_CONTROL,
        MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE,
        MessageType.SET_PEER_BANDWIDTH,
    )
)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkLimits:
    """All sizes in bytes. Each is equal to itself alone: what `sizes_by_type` remembers of it is found sooner so.

    `media_bytes`: one audio, video or aggregate message; `command_bytes`: one command, data, SharedObject or unknown
    message; `control_bytes`: one message of types 1 to 6. `reassembly_bytes`: the halves of messages that one
    connection may have us hold, and `partial_csids` the chunk streams they may be spread over. `known_csids`: chunk
    streams whose last header is remembered. The `before_connect` values hold until `connected()`.
    """

    min_chunk_size: int = 128
    max_chunk_size: int = _MIB
    media_bytes: int = 4 * _MIB
    command_bytes: int = 256 * _KIB
    control_bytes: int = _KIB
    before_connect_bytes: int = 64 * _KIB
    reassembly_bytes: int = 8 * _MIB
    before_connect_reassembly_bytes: int = 128 * _KIB
    partial_csids: int = 64
    known_csids: int = 512
    before_connect_known_csids: int = 16

    def message_bytes(self, type_id: int, before_connect: bool) -> int:
        """The size that a message of this type may have."""
        if type_id in _CONTROL_TYPES:
            return self.control_bytes
        if before_connect:
            return self.before_connect_bytes
        return self.media_bytes if type_id in MEDIA_TYPES else self.command_bytes


@lru_cache(maxsize=64)
def sizes_by_type(limits: ChunkLimits, before_connect: bool) -> tuple[int, ...]:
    """The same for each of the 256 types, which all readers with these limits share."""
    return tuple(limits.message_bytes(type_id, before_connect) for type_id in range(256))


DEFAULT_LIMITS = ChunkLimits()
