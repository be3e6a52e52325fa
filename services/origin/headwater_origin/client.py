"""What an application sees of a session."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater_origin.session import Session


class Client:
    """A connected client."""

    __slots__ = ("_attributes", "_session")

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._attributes: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """Names the session in the whole cluster; never used again."""
        return self._session.session_id

    @property
    def address(self) -> str:
        """The client's IP address."""
        return self._session.address

    @property
    def connected(self) -> bool:
        """Whether the client is still here."""
        return not self._session.closed

    @property
    def connect_properties(self) -> dict[str, Any]:
        """The command object of `connect`: app, tcUrl, pageUrl, flashVer ..., as the client claims them."""
        return self._session.properties

    @property
    def attributes(self) -> dict[str, Any]:
        """Whatever the application keeps for this client."""
        if self._attributes is None:
            self._attributes = {}
        return self._attributes

    def call(self, name: str, *args: Any, timeout_s: float = 10.0) -> Any:
        """Call a method of the client and wait for its result; only this client's later messages wait with it.
        Raises ClientCallFailed, ClientCallTimeout or ClientGone."""
        return self._session.call(name, args, timeout_s)

    def notify(self, name: str, *args: Any) -> None:
        """Call a method of the client without an answer. Nothing happens when the client is gone."""
        self._session.notify(name, args)

    def close(self, reason: str = "closed by the application") -> None:
        """Tell the client `NetConnection.Connect.Closed` and close it."""
        self._session.close(reason)

    def __repr__(self) -> str:
        return f"<Client {self.id} of {self._session.group.name}>"
