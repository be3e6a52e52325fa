"""What an application sees of a session."""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from headwater_origin.bandwidth import Bandwidth, measure
from headwater_origin.connect_properties import connect_properties
from headwater_origin.farewell import close_for_application
from headwater_origin.saying import notify
from headwater_origin.transaction import current

if TYPE_CHECKING:
    from headwater_origin.rooms import Room
    from headwater_origin.session import Session


class Client:
    """A connected client."""

    __slots__ = ("_session",)

    def __init__(self, session: "Session") -> None:
        self._session = session

    def follow(self, session: "Session") -> None:
        """Its session goes on as this one."""
        self._session = session

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
        """Whether the client is still here; also while its edge is looking for its way here."""
        return not self._session.closed or self._session.absent

    @property
    def connect_properties(self) -> dict[str, Any]:
        """The command object of `connect`: app, tcUrl, pageUrl, flashVer ..., as the client claims them."""
        return connect_properties(self._session)

    @property
    def attributes(self) -> MutableMapping[str, Any]:
        """Whatever the application keeps for this client. It lasts as long as the client's session, whichever origin has it:
        values are what AMF can say (else ValueError), and reading one gives a copy."""
        return self._session.attributes

    @property
    def rooms(self) -> "tuple[Room, ...]":
        """The rooms that it has joined."""
        return self._session.group.rooms.rooms_of(self._session)

    def call(self, name: str, *args: Any, timeout_s: float = 10.0) -> Any:
        """Call a method of the client and wait for its result; only this client's later messages wait with it.
        Raises ClientCallFailed, ClientCallTimeout or ClientGone."""
        return self._session.calls.call(name, args, timeout_s)

    def notify(self, name: str, *args: Any) -> None:
        """Call a method of the client without an answer, when the running hook or method has returned. Nothing happens when the
        client is gone. Raises LocalProtocolError for a value without an AMF form."""
        notify(self._session, name, args)

    def measure_bandwidth(self) -> Bandwidth:
        """Measure how fast the client takes what it is sent, by calls of its `onBWCheck`; about two seconds. Only this client's
        later messages wait. Raises ClientCallError: it has no `onBWCheck`, does not answer, or is gone."""
        return measure(self._session)

    def close(self, reason: str = "closed by the application") -> None:
        """Tell the client `NetConnection.Connect.Closed` and close it, when the running hook or method has returned."""
        now = current()
        if now is None:
            close_for_application(self._session, reason)
        else:
            now.after(lambda: close_for_application(self._session, reason))

    def __repr__(self) -> str:
        return f"<Client {self.id} of {self._session.group.name}>"
