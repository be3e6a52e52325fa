"""Status codes and the info objects that carry them (RTMP 1.0, section 7.2; Adobe's NetStatusEvent reference)."""

from enum import StrEnum
from typing import Any


class StatusCode(StrEnum):
    """The `code` of an info object: what servers send. Codes that a player makes for itself (buffers, peers, DRM) are left
    out. PLAY_COMPLETE, PLAY_SWITCH and PLAY_TRANSITION_COMPLETE go out as onPlayStatus data, the others as onStatus."""

    CALL_BAD_VERSION = "NetConnection.Call.BadVersion"
    CALL_FAILED = "NetConnection.Call.Failed"
    CALL_PROHIBITED = "NetConnection.Call.Prohibited"
    CONNECT_APP_SHUTDOWN = "NetConnection.Connect.AppShutdown"
    CONNECT_CLOSED = "NetConnection.Connect.Closed"
    CONNECT_FAILED = "NetConnection.Connect.Failed"
    CONNECT_IDLE_TIMEOUT = "NetConnection.Connect.IdleTimeout"
    CONNECT_INVALID_APP = "NetConnection.Connect.InvalidApp"
    CONNECT_RECONNECT_REQUEST = "NetConnection.Connect.ReconnectRequest"
    CONNECT_REJECTED = "NetConnection.Connect.Rejected"
    CONNECT_SUCCESS = "NetConnection.Connect.Success"
    DATA_START = "NetStream.Data.Start"
    STREAM_FAILED = "NetStream.Failed"
    PAUSE_NOTIFY = "NetStream.Pause.Notify"
    PLAY_COMPLETE = "NetStream.Play.Complete"
    PLAY_FAILED = "NetStream.Play.Failed"
    PLAY_FILE_STRUCTURE_INVALID = "NetStream.Play.FileStructureInvalid"
    PLAY_INSUFFICIENT_BW = "NetStream.Play.InsufficientBW"
    PLAY_NO_SUPPORTED_TRACK = "NetStream.Play.NoSupportedTrackFound"
    PLAY_PUBLISH_NOTIFY = "NetStream.Play.PublishNotify"
    PLAY_RESET = "NetStream.Play.Reset"
    PLAY_START = "NetStream.Play.Start"
    PLAY_STOP = "NetStream.Play.Stop"
    PLAY_STREAM_NOT_FOUND = "NetStream.Play.StreamNotFound"
    PLAY_SWITCH = "NetStream.Play.Switch"
    PLAY_TRANSITION = "NetStream.Play.Transition"
    PLAY_TRANSITION_COMPLETE = "NetStream.Play.TransitionComplete"
    PLAY_UNPUBLISH_NOTIFY = "NetStream.Play.UnpublishNotify"
    PUBLISH_BAD_NAME = "NetStream.Publish.BadName"
    PUBLISH_DENIED = "NetStream.Publish.Denied"
    PUBLISH_IDLE = "NetStream.Publish.Idle"
    PUBLISH_START = "NetStream.Publish.Start"
    RECORD_ALREADY_EXISTS = "NetStream.Record.AlreadyExists"
    RECORD_FAILED = "NetStream.Record.Failed"
    RECORD_NO_ACCESS = "NetStream.Record.NoAccess"
    RECORD_START = "NetStream.Record.Start"
    RECORD_STOP = "NetStream.Record.Stop"
    SEEK_FAILED = "NetStream.Seek.Failed"
    SEEK_INVALID_TIME = "NetStream.Seek.InvalidTime"
    SEEK_NOTIFY = "NetStream.Seek.Notify"
    UNPAUSE_NOTIFY = "NetStream.Unpause.Notify"
    UNPUBLISH_SUCCESS = "NetStream.Unpublish.Success"
    OBJECT_BAD_PERSISTENCE = "SharedObject.BadPersistence"
    OBJECT_CREATION_FAILED = "SharedObject.ObjectCreationFailed"
    OBJECT_NO_READ_ACCESS = "SharedObject.NoReadAccess"
    OBJECT_NO_WRITE_ACCESS = "SharedObject.NoWriteAccess"

    @property
    def level(self) -> str:
        """`status`, `warning` or `error`."""
        if self is StatusCode.PLAY_INSUFFICIENT_BW:
            return "warning"
        return "error" if self in _ERRORS else "status"


_ERROR_ENDS = (
    "AlreadyExists",
    "AppShutdown",
    "BadName",
    "BadVersion",
    "Denied",
    "Failed",
    "FileStructureInvalid",
    "InvalidApp",
    "InvalidTime",
    "NoAccess",
    "NoSupportedTrackFound",
    "Prohibited",
    "Rejected",
    "StreamNotFound",
)
_ERRORS = frozenset(
    code for code in StatusCode if code.startswith("SharedObject.") or code.rpartition(".")[2] in _ERROR_ENDS
)


def status(code: StatusCode, description: str = "", **extra: Any) -> dict[str, Any]:
    """The info object of an onStatus, _result or _error."""
    return {"level": code.level, "code": str(code), "description": description, **extra}
