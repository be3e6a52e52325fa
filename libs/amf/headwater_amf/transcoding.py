"""One AMF0-framed value from one AMF version to the other, as SharedObjects need it."""

from typing import Any, Final

from headwater_amf import amf0
from headwater_amf.errors import AmfDecodeError, AmfEncodeError

_GROWTH: Final = 8
_FREE_BYTES: Final = 4096
"""What AMF3 says by reference, AMF0 says in full: a value may grow so many times, and to so many bytes in any case."""


def transcode(value: bytes, *, to_amf3: bool) -> bytes:
    """The value for clients of AMF3 (behind an AVMPLUS marker) or of AMF0.

    A value that is in its form already is handed back unread. What the other version has no form for keeps its own (either
    may stand in an AMF0-framed body): ByteArray, Vector, Dictionary, E4X and externalizable values inside AMF0; objects with
    an empty key, and what would grow more than eightfold past 4 KiB. Lost on the way to AMF0: which members are sealed. Lost
    on the way to AMF3: a date's reserved time zone, that an empty array was an associative one (AMF3 has one kind),
    UNSUPPORTED (it becomes undefined). Raises AmfDecodeError when the value had to be read and is not exactly one."""
    if not value:
        amf0.skip(value)
    if to_amf3:
        if value[0] == amf0.Marker.AVMPLUS:
            return value
    elif amf0.Marker.AVMPLUS not in value:
        return value
    try:
        if to_amf3:
            return amf0.encode_avmplus(_single(value))
        return amf0.encode(_single(value), most_bytes=max(_FREE_BYTES, _GROWTH * len(value)))
    except AmfEncodeError:
        return value


def _single(value: bytes) -> Any:
    decoded, end = amf0.decode(value)
    if end != len(value):
        raise AmfDecodeError(f"offset {end}: {len(value) - end} bytes behind the value, expected none")
    return decoded
