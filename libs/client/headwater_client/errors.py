"""What can go wrong for a client: the text says what was asked of whom, and what came."""

from typing import Any


class ClientError(Exception):
    """The base of all errors of this package."""


class ConnectionClosed(ClientError):
    """The connection is closed, or was closed while an answer was waited for."""


class TimedOut(ClientError):
    """No answer came in time; the connection is still there."""


class _Refused(ClientError):
    """The server said no. `info` is the info object of its answer, `code` and `description` what stands in it."""

    def __init__(self, asked: str, info: Any = None, text: str = "") -> None:
        self.info: dict[str, Any] = dict(info) if isinstance(info, dict) else {}
        self.code = _text(self.info.get("code"))
        self.description = _text(self.info.get("description"))
        said = ": ".join(part for part in (self.code, self.description) if part)
        if not said and info is not None and not isinstance(info, dict):
            said = repr(info)[:200]
        super().__init__(f"{asked}: {text or said or 'refused without a reason'}")


class ConnectError(_Refused):
    """No connection: a bad address, nobody there, no answer in time, or the server rejected it."""

    @property
    def redirect(self) -> str | None:
        """The URL that the server says is to be tried instead (`ex.redirect` of its info object)."""
        ex = self.info.get("ex")
        return _text(ex.get("redirect")) or None if isinstance(ex, dict) else None


class CallFailed(_Refused):
    """The server answered a call with `_error`."""


class StreamError(_Refused):
    """The server refused publish or play, or a stream was used in a way it does not allow."""


class SharedObjectError(_Refused):
    """The server refused the use or a change of a SharedObject, or a released one was used."""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
