"""One AMF0-framed value from one AMF version to the other, as SharedObjects need it."""

from headwater_amf import amf0


def transcode(value: bytes, *, to_amf3: bool) -> bytes:
    """The value with (`to_amf3`) or without an AVMPLUS marker. What AMF0 lacks keeps the marker. Raises AmfDecodeError."""
    if to_amf3:
        return value if value[:1] == b"\x11" else amf0.encode_avmplus(amf0.decode(value)[0])
    return value if value[:1] != b"\x11" else amf0.encode(amf0.decode(value)[0])
