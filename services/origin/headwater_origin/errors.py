"""What application code raises, and what it gets raised."""

from typing import Any


class Reject(Exception):
    """Raised (or returned) by a hook to refuse what a client asks for; the client gets the reason as a status."""

    def __init__(self, reason: str = "rejected by the application") -> None:
        super().__init__(reason)
        self.reason = reason


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
