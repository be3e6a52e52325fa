"""A SharedObject as the application sees it: a mapping whose changes reach every user."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from headwater_amf import UNDEFINED, amf0
from headwater_rtmp.shared_object import EventType

if TYPE_CHECKING:
    from headwater_origin.objects import SharedObject


class SharedObjectView(MutableMapping[str, Any]):
    """Keys are slot names, values what AMF can say. Setting a slot to None deletes it, as it does for clients."""

    __slots__ = ("_shared",)

    def __init__(self, shared: "SharedObject") -> None:
        self._shared = shared

    @property
    def name(self) -> str:
        """The object's name."""
        return self._shared.name

    @property
    def version(self) -> int:
        """Counts commits."""
        return self._shared.version

    @property
    def users(self) -> int:
        """How many clients use it."""
        return self._shared.users

    def __getitem__(self, key: str) -> Any:
        return amf0.decode(self._shared.slots[key])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._shared.slots))

    def __len__(self) -> int:
        return len(self._shared.slots)

    def __setitem__(self, key: str, value: Any) -> None:
        self.change({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._shared.slots:
            raise KeyError(key)
        self.change({key: None})

    def change(self, items: Mapping[str, Any]) -> None:
        """Set (or with None delete) several slots as one commit: users get them in one message. Raises AmfEncodeError for a
        value without an AMF form, ValueError over a limit of the object; then nothing is changed."""
        shared = self._shared
        encoded = {
            key: None if value is None or value is UNDEFINED else amf0.encode(value) for key, value in items.items()
        }
        before = {key: shared.slots.get(key) for key in encoded}
        changes: list[tuple[int, str, bytes]] = []
        for key, raw in encoded.items():
            if raw is None:
                if shared.take(key):
                    changes.append((EventType.REMOVE, key, b""))
                continue
            problem = shared.put(key, raw) if 0 < len(key.encode()) <= 256 else "a key has 1 to 256 bytes"
            if problem is not None:
                for undone, old in before.items():
                    shared.take(undone)
                    if old is not None:
                        shared.put(undone, old)
                raise ValueError(f"SharedObject {shared.name!r}, slot {key!r}: {problem}")
            changes.append((EventType.CHANGE, key, raw))
        shared.commit(changes, None)

    def clear(self) -> None:
        """Delete every slot: users get one Clear."""
        if self._shared.empty():
            self._shared.commit([(EventType.CLEAR, "", b"")], None)

    def send(self, handler: str, *args: Any) -> None:
        """Call a handler of every user's object."""
        self._shared.commit([(EventType.SEND_MESSAGE, "", amf0.encode(handler, *args))], None)

    def __repr__(self) -> str:
        return f"<SharedObjectView {self.name!r} version {self.version}>"
