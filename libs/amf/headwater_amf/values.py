"""Python values for what AMF has and Python has not.

None is null, bool, float and int are themselves, str is a string, bytes a ByteArray, dict an anonymous object, list a strict
(dense) array. Everything else is here. No class of a sender is ever imported: a typed object stays a `TypedObject`.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final


class Undefined:
    """The type of UNDEFINED, which is not null (AMF0 2.8, AMF3 3.2). False in a condition."""

    __slots__ = ()

    def __new__(cls) -> "Undefined":
        """The one instance."""
        known = globals().get("UNDEFINED")
        return known if isinstance(known, cls) else super().__new__(cls)

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __reduce__(self) -> str:
        return "UNDEFINED"


class Unsupported:
    """The type of UNSUPPORTED: the sender had a value that AMF0 cannot carry (AMF0 2.14)."""

    __slots__ = ()

    def __new__(cls) -> "Unsupported":
        """The one instance."""
        known = globals().get("UNSUPPORTED")
        return known if isinstance(known, cls) else super().__new__(cls)

    def __repr__(self) -> str:
        return "UNSUPPORTED"

    def __reduce__(self) -> str:
        return "UNSUPPORTED"


UNDEFINED: Final = Undefined()
UNSUPPORTED: Final = Unsupported()
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class EcmaArray(dict[str, Any]):
    """An associative array (AMF0 2.10). `dense` holds the ordinal part that an AMF3 array has beside it (AMF3 3.11)."""

    __slots__ = ("dense",)

    def __init__(self, items: Any = (), dense: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self.dense = list(dense)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EcmaArray):
            return dict.__eq__(self, other) and self.dense == other.dense
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        return f"EcmaArray({dict.__repr__(self)}, dense={self.dense!r})"


@dataclass(slots=True)
class TypedObject:
    """An object with a class name (AMF0 2.18, AMF3 3.12). `sealed` names the members that AMF3 traits declare, in order;
    the others are dynamic and need `dynamic`."""

    class_name: str
    fields: dict[str, Any] = field(default_factory=dict)
    sealed: tuple[str, ...] = ()
    dynamic: bool = True


@dataclass(slots=True, frozen=True)
class Date:
    """Milliseconds since 1970-01-01 UTC and the time zone that AMF0 reserves (minutes; AMF0 2.13, AMF3 3.10)."""

    ms: float
    timezone_minutes: int = 0

    def datetime(self) -> dt.datetime:
        """The moment as an aware datetime. Raises OverflowError outside the years 1 to 9999, ValueError for NaN."""
        return _EPOCH + dt.timedelta(milliseconds=self.ms)

    @classmethod
    def of(cls, moment: dt.datetime) -> "Date":
        """The moment of a datetime; a naive one is taken as UTC."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return cls((aware - _EPOCH) / dt.timedelta(milliseconds=1))


class XmlDocument(str):
    """The text of a flash.xml.XMLDocument (AMF0 2.17, AMF3 3.9). Never parsed."""

    __slots__ = ()


class Xml(str):
    """The text of an E4X XML value (AMF3 3.13). Never parsed."""

    __slots__ = ()


VECTOR_KINDS: Final = ("int", "uint", "number", "object")


@dataclass(slots=True)
class Vector:
    """Vector.<int|uint|Number|class> (AMF3 3.15). `kind` is one of VECTOR_KINDS."""

    kind: str
    items: list[Any]
    fixed: bool = False
    class_name: str = ""


@dataclass(slots=True)
class Dictionary:
    """flash.utils.Dictionary (AMF3 3.16): pairs, since keys may be any value."""

    pairs: list[tuple[Any, Any]]
    weak: bool = False


@dataclass(slots=True)
class Externalizable:
    """An object of a class that writes itself (AMF3 3.12), read by a registered reader; `body` is what it returned."""

    class_name: str
    body: Any


class ArrayCollection(list[Any]):
    """flex.messaging.io.ArrayCollection: a list that AMF3 writes as an externalizable object."""

    __slots__ = ()


class ObjectProxy(dict[str, Any]):
    """flex.messaging.io.ObjectProxy: a dict that AMF3 writes as an externalizable object."""

    __slots__ = ()
