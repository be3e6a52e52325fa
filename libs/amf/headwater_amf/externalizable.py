"""Classes that write themselves (AMF3 3.12): who reads and writes them is registered here, by class name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headwater_amf.values import ArrayCollection, Externalizable, ObjectProxy

if TYPE_CHECKING:
    from headwater_amf.amf3 import Reader
    from headwater_amf.amf3_writer import Writer


@dataclass(frozen=True, slots=True)
class ExternalizableCodec:
    """`read` takes the value behind the class name off a Reader, `write` puts it on a Writer."""

    read: Callable[["Reader"], Any]
    write: Callable[["Writer", Any], None]


class Registry:
    """Codecs by class name, and the class names of the Python types that stand for such a class."""

    __slots__ = ("class_names", "codecs")

    def __init__(self) -> None:
        self.codecs: dict[str, ExternalizableCodec] = {}
        self.class_names: dict[type, str] = {}

    def register(
        self,
        class_name: str,
        read: Callable[["Reader"], Any],
        write: Callable[["Writer", Any], None],
        python_type: type | None = None,
    ) -> None:
        """Teach the codec a class.

        `read` returns the value, an `Externalizable` where no Python type stands for it. If the value can hold itself,
        `read` calls `reader.bind(value)` before it reads on. `write` gets the value, of an `Externalizable` the body.
        Values of `python_type` and its subclasses are written as the class. Raises ValueError for a class or type that
        is already known."""
        if class_name in self.codecs:
            raise ValueError(
                f"externalizable class {class_name!r}, expected one that is not registered already"
            )
        if python_type in self.class_names:
            raise ValueError(
                f"{python_type}, expected one that does not stand for {self.class_names[python_type]!r} already"
            )
        self.codecs[class_name] = ExternalizableCodec(read, write)
        if python_type is not None:
            self.class_names[python_type] = class_name

    def unregister(self, class_name: str) -> None:
        """Forget a class. Raises KeyError for one that is not known."""
        del self.codecs[class_name]
        self.class_names = {kind: name for kind, name in self.class_names.items() if name != class_name}

    def class_name_of(self, value: Any) -> str:
        """The class that a Python value is written as. Raises KeyError."""
        if isinstance(value, Externalizable):
            return value.class_name
        for kind in type(value).__mro__:
            if kind in self.class_names:
                return self.class_names[kind]
        raise KeyError(type(value))


EXTERNALIZABLES: Final = Registry()
register_externalizable = EXTERNALIZABLES.register

_COLLECTION: Final = "flex.messaging.io.ArrayCollection"
_LIST: Final = "flex.messaging.io.ArrayList"
_PROXY: Final = "flex.messaging.io.ObjectProxy"


def _read_collection(reader: "Reader") -> ArrayCollection | Externalizable:
    """A dense array is what Flex writes; anything else is kept as it is."""
    value = ArrayCollection()
    reader.bind(value)
    items = reader.value()
    if type(items) is not list:
        return Externalizable(_COLLECTION, items)
    value.extend(items)
    return value


def _read_proxy(reader: "Reader") -> ObjectProxy | Externalizable:
    """An anonymous object is the usual content; a typed one or an array is kept as it is."""
    value = ObjectProxy()
    reader.bind(value)
    fields = reader.value()
    if type(fields) is not dict:
        return Externalizable(_PROXY, fields)
    value.update(fields)
    return value


def _read_list(reader: "Reader") -> Externalizable:
    value = Externalizable(_LIST, None)
    reader.bind(value)
    value.body = reader.value()
    return value


def _write_collection(writer: "Writer", value: Any) -> None:
    writer.value(list(value) if isinstance(value, ArrayCollection) else value)


def _write_proxy(writer: "Writer", value: Any) -> None:
    writer.value(dict(value) if isinstance(value, ObjectProxy) else value)


def _write_list(writer: "Writer", value: Any) -> None:
    writer.value(value)


register_externalizable(_COLLECTION, _read_collection, _write_collection, ArrayCollection)
register_externalizable(_PROXY, _read_proxy, _write_proxy, ObjectProxy)
register_externalizable(_LIST, _read_list, _write_list)
