"""What application code raises, and what it gets raised."""

from typing import Any


class Reject(Exception):
    """Raised (or returned) by a hook to refuse what a client asks for; the client gets the reason as a status."""

    def __init__(self, reason: str = "rejected by the application") -> None:
        super().__init__(reason)
        self.reason = reason


class Redirect(Reject):
    """Raised (or returned) by `on_connect` to send a client elsewhere: its connect is refused with the address, as Flash Media
    Server does (`info.ex.redirect`)."""

    def __init__(self, url: str, reason: str = "redirected by the application") -> None:
        super().__init__(reason)
        self.url = url


class StoreUnavailable(Exception):
    """The store has been away for too long: what would be journaled is refused for now, and nothing was changed."""

    def __init__(self) -> None:
        super().__init__("the store cannot be reached; nothing was changed")


class GroupLost(Exception):
    """The scope is at another origin now; what was not committed yet is not going to be."""


class SessionLost(GroupLost):
    """The link to a client was lost while the handler of its message waited for it: nothing of that has happened, and the message
    is going to be handled again."""


class ObjectUnavailable(Exception):
    """A SharedObject could not be read or changed: it is at another origin that is not reached, locked for too long, or the store
    is away. The text says which, and whether anything was changed."""


class CallError(Exception):
    """Raised by a `@remote` method: the caller gets `_error` with this code and description."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(f"{code}: {description}" if description else code)
        self.code, self.description = code, description


class ClientCallError(Exception):
    """A call to a client did not return a result."""


class ClientCallFailed(ClientCallError):
    """The client answered with `_error`; `info` is what it sent."""

    def __init__(self, name: str, info: Any) -> None:
        super().__init__(f"call of {name!r}: the client answered with an error: {info!r}")
        self.info = info


class ClientCallTimeout(ClientCallError):
    """The client did not answer in time."""


class ClientGone(ClientCallError):
    """The client left before it answered, or had left already."""
