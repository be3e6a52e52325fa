"""Equal values of many owners, kept once."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST = 256


class Alike(Generic[T]):
    """Finds an owner that has an equal value already. It keeps the hashes of the last values and who had them, not the values:
    they may hold a token, which is not to be in memory for longer than its owner.

    `value_of` gives the value of an owner, None: it is not there any more, or has none.
    """

    __slots__ = ("_owners", "_value_of")

    def __init__(self, value_of: Callable[[int], T | None]) -> None:
        self._value_of = value_of
        self._owners: dict[int, int] = {}

    def shared(self, owner: int, value: T, content: bytes) -> T:
        """The equal value of another owner, or this one. `content`: most of it, as bytes. `owner` has none yet."""
        key = hash(content)
        other = self._value_of(self._owners.get(key, owner))
        if other is not None and other == value:
            return other
        if len(self._owners) >= _MOST:
            self._owners.clear()
        self._owners[key] = owner
        return value
