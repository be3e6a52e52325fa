"""Mappings of applications that are journaled: `state` of the scope, `attributes` of a client. Values are what AMF can say."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from headwater_amf import amf0
from headwater_bus.rows import pack_rows, unpack_rows

from headwater_origin.transaction import current, transaction

if TYPE_CHECKING:
    from headwater_origin.group import Group

Changes = dict[str, bytes | None]
"""Encoded values by key; None: deleted."""
MOST_KEY_BYTES = 1024


class _Pending:
    """One transaction's changes of a mapping (an Overlay)."""

    __slots__ = ("_values", "changes")
    waits = False

    def __init__(self, values: "Values") -> None:
        self._values = values
        self.changes: Changes = {}

    def prepare(self) -> None:
        """Raises ValueError: over the limit together with what others have set meanwhile."""
        values, size = self._values, self._values.size_bytes
        for key, raw in self.changes.items():
            size += _size(key, raw) - _size(key, values.raw.get(key))
        if size > values.limit_bytes and size > values.size_bytes:
            raise ValueError(f"{values.what}: holds at most {values.limit_bytes} bytes, not {size}")

    def commit(self) -> None:
        """Apply and journal."""
        self._values.apply(self.changes)
        self._values.changed(self.changes)

    def abandon(self) -> None:
        """Nothing is to be undone."""


class Values(MutableMapping[str, Any]):
    """See the module. Reading gives copies: what is changed in place is not kept. Setting raises ValueError for a value without
    an AMF form, for a key that is no text of 1 to 1024 bytes, and over `limit_bytes`. `changed` is told what a commit has
    changed."""

    __slots__ = ("_group", "changed", "limit_bytes", "raw", "size_bytes", "what")

    def __init__(
        self, group: "Group", what: str, limit_bytes: int, changed: Callable[[Changes], None]
    ) -> None:
        self._group, self.what, self.limit_bytes, self.changed = group, what, limit_bytes, changed
        self.raw: dict[str, bytes] = {}
        """What is committed."""
        self.size_bytes = 0

    def apply(self, changes: Changes) -> None:
        """Take a commit's changes."""
        for key, raw in changes.items():
            self.size_bytes += _size(key, raw) - _size(key, self.raw.get(key))
            if raw is None:
                self.raw.pop(key, None)
            else:
                self.raw[key] = raw

    def _seen(self, key: str) -> bytes | None:
        now = current()
        pending = now.peek(self) if now is not None else None
        if isinstance(pending, _Pending) and key in pending.changes:
            return pending.changes[key]
        return self.raw.get(key)

    def __getitem__(self, key: str) -> Any:
        raw = self._seen(key)
        if raw is None:
            raise KeyError(key)
        return amf0.decode(raw)[0]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or not 0 < len(key.encode(errors="surrogatepass")) <= MOST_KEY_BYTES:
            raise ValueError(f"{self.what}, key {key!r:.40}: expected text of 1 to {MOST_KEY_BYTES} bytes")
        raw = amf0.encode(value)
        with transaction(self._group) as now:
            pending = now.overlay(self, lambda: _Pending(self))
            before = pending.changes.get(key, self)
            pending.changes[key] = raw
            try:
                pending.prepare()
            except ValueError:
                if before is self:
                    del pending.changes[key]
                else:
                    pending.changes[key] = before  # type: ignore[assignment]  # not the mark: a value or None
                raise

    def __delitem__(self, key: str) -> None:
        if self._seen(key) is None:
            raise KeyError(key)
        with transaction(self._group) as now:
            now.overlay(self, lambda: _Pending(self)).changes[key] = None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._seen(key) is not None

    def __iter__(self) -> Iterator[str]:
        now = current()
        pending = now.peek(self) if now is not None else None
        if not isinstance(pending, _Pending):
            return iter(list(self.raw))
        kept = [key for key in self.raw if pending.changes.get(key, b"") is not None]
        return iter(
            kept + [key for key, raw in pending.changes.items() if raw is not None and key not in self.raw]
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (not isinstance(other, Values) and dict(self) == other)

    def __repr__(self) -> str:
        return f"<{self.what}: {dict(self)!r}>"


def _size(key: str, raw: bytes | None) -> int:
    return 0 if raw is None else len(key.encode(errors="surrogatepass")) + len(raw)


def pack_values(raw: dict[str, bytes]) -> bytes:
    """Encoded values by key, as a row has them."""
    return pack_rows([*raw.items()])


NO_VALUES = pack_values({})


def unpack_values(payload: bytes) -> dict[str, bytes]:
    """What `pack_values` gave. Raises EnvelopeError."""
    return dict(unpack_rows(payload, str, bytes))
