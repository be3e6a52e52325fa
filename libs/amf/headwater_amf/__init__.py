"""AMF0 and AMF3 values to bytes and back."""

from headwater_amf import amf0, amf3
from headwater_amf.errors import AmfDecodeError, AmfEncodeError, AmfError, AmfTruncated
from headwater_amf.externalizable import EXTERNALIZABLES, register_externalizable
from headwater_amf.limits import DEFAULT_LIMITS, Limits
from headwater_amf.transcoding import transcode
from headwater_amf.values import (
    UNDEFINED,
    UNSUPPORTED,
    ArrayCollection,
    Date,
    Dictionary,
    EcmaArray,
    Externalizable,
    ObjectProxy,
    TypedObject,
    Undefined,
    Unsupported,
    Vector,
    Xml,
    XmlDocument,
)

__all__ = [
    "DEFAULT_LIMITS",
    "EXTERNALIZABLES",
    "UNDEFINED",
    "UNSUPPORTED",
    "AmfDecodeError",
    "AmfEncodeError",
    "AmfError",
    "AmfTruncated",
    "ArrayCollection",
    "Date",
    "Dictionary",
    "EcmaArray",
    "Externalizable",
    "Limits",
    "ObjectProxy",
    "TypedObject",
    "Undefined",
    "Unsupported",
    "Vector",
    "Xml",
    "XmlDocument",
    "amf0",
    "amf3",
    "register_externalizable",
    "transcode",
]
