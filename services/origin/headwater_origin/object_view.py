"""A SharedObject as the application sees it: a mapping whose changes reach every user."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from headwater_amf import UNDEFINED, amf0
from headwater_rtmp.shared_object import EventType

from headwater_origin.slot_values import sound_arguments, sound_value

if TYPE_CHECKING:
    from headwater_origin.shared_object import SharedObject


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
        """Set (or with None delete) several slots as one commit: users get them in one message. Raises ValueError for a value
        without an AMF form (AmfEncodeError), a key that is none, or over a limit of the object; then nothing is changed."""
        shared = self._shared
        encoded = {self._checked(key): self._encoded(key, value) for key, value in items.items()}
        before = {key: shared.slots.get(key) for key in encoded}
        changes: list[tuple[int, str, bytes]] = []
        for key, raw in encoded.items():
            if raw is None:
                if shared.take(key):
                    changes.append((EventType.REMOVE, key, b""))
                continue
            problem = shared.put(key, raw)
            if problem is not None:
                # All out before anything goes back, so that nothing is over a limit on the way.
                for undone in before:
                    shared.take(undone)
                for undone, old in before.items():
                    if old is not None:
                        shared.put(undone, old)
                raise ValueError(f"SharedObject {shared.name!r}, slot {key!r}: {problem}")
            changes.append((EventType.CHANGE, key, raw))
        shared.commit(changes, None)

    def _checked(self, key: object) -> str:
        if isinstance(key, str) and 0 < len(key.encode()) <= 256:
            return key
        raise ValueError(f"SharedObject {self.name!r}, slot {key!r:.40}: expected a key of 1 to 256 bytes")

    def _encoded(self, key: str, value: Any) -> bytes | None:
        if value is None or value is UNDEFINED:
            return None
        raw = amf0.encode(value)
        if not sound_value(raw):
            raise ValueError(
                f"SharedObject {self.name!r}, slot {key!r}: the value is too deep or has too many parts"
            )
        return raw

    def clear(self) -> None:
        """Delete every slot: users get one Clear."""
        if self._shared.empty():
            self._shared.commit([(EventType.CLEAR, "", b"")], None)

    def send(self, handler: str, *args: Any) -> None:
        """Call a handler of every user's object. Raises ValueError for what has no AMF form, or over the limit of a value."""
        raw = amf0.encode(handler, *args)
        if (problem := self._shared.too_long(raw)) is not None:
            raise ValueError(f"SharedObject {self.name!r}, send {handler!r}: {problem}")
        if not sound_arguments(raw):
            raise ValueError(
                f"SharedObject {self.name!r}, send {handler!r}: the arguments are too deep or too many"
            )
        self._shared.commit([(EventType.SEND_MESSAGE, "", raw)], None)

    def __repr__(self) -> str:
        return f"<SharedObjectView {self.name!r} version {self.version}>"
