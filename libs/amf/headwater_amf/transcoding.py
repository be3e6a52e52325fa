"""One AMF0-framed value from one AMF version to the other, as SharedObjects need it."""

from typing import Any

from headwater_amf import amf0
from headwater_amf.errors import AmfDecodeError, AmfEncodeError


def transcode(value: bytes, *, to_amf3: bool) -> bytes:
    """The value for clients of AMF3 (behind an AVMPLUS marker) or of AMF0.

    A value that is in its form already is handed back unread. What the other version has no form for keeps its own (either
    may stand in an AMF0-framed body): ByteArray, Vector, Dictionary, E4X and externalizable values inside AMF0; objects with
    an empty key, or what would grow past an encoder's bounds. Lost on the way to AMF0: which members are sealed. Lost on the
    way to AMF3: a date's reserved time zone, that an empty array was an associative one (AMF3 has one kind), UNSUPPORTED
    (it becomes undefined). Raises AmfDecodeError when the value had to be read and is not exactly one."""
    if not value:
        amf0.skip(value)
    if to_amf3:
        if value[0] == amf0.Marker.AVMPLUS:
            return value
    elif amf0.Marker.AVMPLUS not in value:
        return value
    try:
        return (amf0.encode_avmplus if to_amf3 else amf0.encode)(_single(value))
    except AmfEncodeError:
        return value


def _single(value: bytes) -> Any:
    decoded, end = amf0.decode(value)
    if end != len(value):
        raise AmfDecodeError(f"offset {end}: {len(value) - end} bytes behind the value, expected none")
    return decoded
