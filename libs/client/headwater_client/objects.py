"""The SharedObjects of a connection."""

from typing import TYPE_CHECKING

from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import decode_shared_object

from headwater_client.shared_object import CLIENT_OBJECT_LIMITS, SharedObject
from headwater_client.transport import Transport

if TYPE_CHECKING:
    from headwater_client.net_connection import NetConnection


class Objects:
    """Those that are used. A temporary and a persistent one of one name are two."""

    __slots__ = ("_by_key", "_connection")

    def __init__(self, connection: "NetConnection") -> None:
        self._connection = connection
        self._by_key: dict[tuple[str, bool], SharedObject] = {}

    @property
    def unanswered(self) -> int:
        """How many changes of ours the server has not answered."""
        return sum(shared.unanswered for shared in self._by_key.values())

    def use(self, name: str, persistent: bool, known: SharedObject | None) -> SharedObject:
        """See `NetConnection.shared_object`."""
        key = (name, persistent)
        if key not in self._by_key:
            self._connection.ready()
        if key not in self._by_key:  # Another greenlet may have asked meanwhile.
            self.add(SharedObject(self._connection, name, persistent, known))
        return self._by_key[key]

    def add(self, shared: SharedObject) -> None:
        """Ask the server for it. Waits for nothing. Raises ConnectionClosed."""
        shared.use()
        self._by_key[shared.name, shared.persistent] = shared

    def forget(self, shared: SharedObject) -> None:
        """It is released."""
        key = (shared.name, shared.persistent)
        if self._by_key.get(key) is shared:
            del self._by_key[key]

    def receive(self, message: Message) -> None:
        """The server says something about one. Raises RemoteProtocolError."""
        decoded = decode_shared_object(message, CLIENT_OBJECT_LIMITS)
        shared = self._by_key.get((decoded.name, decoded.persistent))
        if shared is None:
            # Some servers do not repeat the flags; never mind unless we use both kinds.
            shared = self._by_key.get((decoded.name, not decoded.persistent))
        if shared is not None:
            shared.receive(decoded)

    def use_again(self, transport: Transport) -> None:
        """There is another connection. Raises ConnectionClosed."""
        for shared in self._by_key.values():
            shared.use_again(transport)

    def ended(self) -> None:
        """There will be no other."""
        for shared in self._by_key.values():
            shared.ended()
