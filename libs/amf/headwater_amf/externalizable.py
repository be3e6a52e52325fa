"""Classes that write themselves (AMF3 3.12): who reads and writes them is registered here, by class name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater_amf.errors import AmfDecodeError
from headwater_amf.values import ArrayCollection, Externalizable, ObjectProxy

if TYPE_CHECKING:
    from headwater_amf.amf3 import Reader
    from headwater_amf.amf3_writer import Writer


@dataclass(frozen=True, slots=True)
class ExternalizableCodec:
    """`read` takes the value behind the class name off a Reader, `write` puts it on a Writer."""

    read: Callable[["Reader"], Any]
    write: Callable[["Writer", Any], None]


EXTERNALIZABLES: dict[str, ExternalizableCodec] = {}
CLASS_NAMES: dict[type, str] = {}
"""Class names of Python types that stand for an externalizable class."""


def register_externalizable(
    class_name: str,
    read: Callable[["Reader"], Any],
    write: Callable[["Writer", Any], None],
    python_type: type | None = None,
) -> None:
    """Teach the codec a class. `read` returns the value (an `Externalizable` where no Python type stands for it);
    values of `python_type` are written as the class. Raises ValueError for a class that is already known."""
    if class_name in EXTERNALIZABLES:
        raise ValueError(f"externalizable class {class_name!r} is registered already")
    EXTERNALIZABLES[class_name] = ExternalizableCodec(read, write)
    if python_type is not None:
        CLASS_NAMES[python_type] = class_name


def body_of(value: Any) -> Any:
    """What a codec's `write` gets: the body of an Externalizable, any other value itself."""
    return value.body if isinstance(value, Externalizable) else value


def _read_collection(reader: "Reader") -> ArrayCollection:
    items = reader.value()
    if not isinstance(items, list):
        raise AmfDecodeError(
            f"offset {reader.at}: ArrayCollection of a {type(items).__name__}, expected an array"
        )
    return ArrayCollection(items)


def _read_proxy(reader: "Reader") -> ObjectProxy:
    fields = reader.value()
    if not isinstance(fields, dict):
        raise AmfDecodeError(
            f"offset {reader.at}: ObjectProxy of a {type(fields).__name__}, expected an object"
        )
    return ObjectProxy(fields)


def _read_list(reader: "Reader") -> Externalizable:
    return Externalizable("flex.messaging.io.ArrayList", reader.value())


register_externalizable(
    "flex.messaging.io.ArrayCollection",
    _read_collection,
    lambda writer, value: writer.value(list(value)),
    ArrayCollection,
)
register_externalizable(
    "flex.messaging.io.ObjectProxy", _read_proxy, lambda writer, value: writer.value(dict(value)), ObjectProxy
)
register_externalizable("flex.messaging.io.ArrayList", _read_list, lambda writer, value: writer.value(value))
