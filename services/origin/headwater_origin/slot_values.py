"""Values of SharedObject slots, as the bytes they are kept as: which of them delete a slot, and which edges can write."""

from headwater_amf import AmfError
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.shared_object import arguments_for, value_for

NOTHING = frozenset((b"\x05", b"\x06", b"\x11\x00", b"\x11\x01"))
"""null and undefined, AMF0 and AMF3: setting a slot to one of them deletes it."""
_SCALAR_MARKERS = frozenset(b"\x00\x01\x02\x05\x06")


def sound_value(value: bytes) -> bool:
    """Whether an edge can write a value for clients of both AMF versions. Plain values were read when the message was
    decoded; what has parts is tried."""
    if value[:1] and value[0] in _SCALAR_MARKERS:
        return True
    try:
        for amf3 in (False, True):
            value_for(value, amf3)
    except (AmfError, RtmpError):
        return False
    return True


def sound_arguments(data: bytes) -> bool:
    """The same for the handler name and arguments of a `send`."""
    try:
        for amf3 in (False, True):
            arguments_for(data, amf3)
    except (AmfError, RtmpError):
        return False
    return True
