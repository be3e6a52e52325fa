"""Values of SharedObject slots, as the bytes they are kept as: which of them delete a slot, which edges can write, and how many
and how large they may be."""

from dataclasses import dataclass
from typing import Any

from headwater_amf import UNDEFINED, AmfError, amf0
from headwater_rtmp.errors import RtmpError
from headwater_rtmp.shared_object import arguments_for, value_for

NOTHING = frozenset((b"\x05", b"\x06", b"\x11\x00", b"\x11\x01"))
"""null and undefined, AMF0 and AMF3: setting a slot to one of them deletes it."""
_SCALAR_MARKERS = frozenset(b"\x00\x01\x02\x05\x06")
_KEY_BYTES = 256


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """What one object may hold; `total_bytes` counts keys and values."""

    slots: int
    value_bytes: int
    total_bytes: int

    def too_long(self, value: bytes) -> str | None:
        """Why a value, or the arguments of a `send`, cannot be that long, or None."""
        return f"a value has at most {self.value_bytes} bytes" if len(value) > self.value_bytes else None

    def over(self, count: int, size_bytes: int) -> str | None:
        """Why there cannot be so many slots and bytes, or None."""
        if count > self.slots:
            return f"an object has at most {self.slots} slots"
        return f"an object has at most {self.total_bytes} bytes" if size_bytes > self.total_bytes else None

    def refusal(self, key: str, old: bytes | None, value: bytes, count: int, size_bytes: int) -> str | None:
        """Why a slot that holds `old` (None: that is not there) cannot be set in an object with so many slots and bytes, or
        None."""
        if not key:
            return "the name of a slot is empty"
        if len(value) > self.value_bytes:
            return self.too_long(value)
        grown = len(value) - (len(old) if old is not None else -len(key.encode()))
        if grown > 0 and size_bytes + grown > self.total_bytes:
            return f"an object has at most {self.total_bytes} bytes"
        if old is None and count >= self.slots:
            return f"an object has at most {self.slots} slots"
        return None


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


def checked_key(key: object) -> str:
    """A key that application code gives. Raises ValueError."""
    if isinstance(key, str) and 0 < len(key.encode()) <= _KEY_BYTES:
        return key
    raise ValueError(f"slot {key!r:.40}: expected a key of 1 to {_KEY_BYTES} bytes")


def encoded_value(key: str, value: Any) -> bytes | None:
    """A value that application code gives; None deletes the slot. Raises ValueError."""
    if value is None or value is UNDEFINED:
        return None
    raw = amf0.encode(value)
    if not sound_value(raw):
        raise ValueError(f"slot {key!r}: the value is too deep or has too many parts")
    return raw


def encoded_arguments(handler: str, args: tuple[Any, ...]) -> bytes:
    """Handler name and arguments of a `send` of application code. Raises ValueError."""
    if not isinstance(handler, str):
        raise ValueError(f"send: the name of a handler is {type(handler).__name__}, expected str")
    raw = amf0.encode(handler, *args)
    if not sound_arguments(raw):
        raise ValueError(f"send {handler!r}: the arguments are too deep or too many")
    return raw


def decoded_value(raw: bytes) -> Any:
    """What a slot's bytes say, as a new object."""
    return amf0.decode(raw)[0]
