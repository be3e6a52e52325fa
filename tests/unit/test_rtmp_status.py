"""Status codes: spelling and levels as Adobe's NetStatusEvent reference and Enhanced RTMP v2 list them."""

import pytest
from headwater_rtmp.status import StatusCode, status


def test_status_objects() -> None:
    assert status(StatusCode.PUBLISH_START, "live/a", clientid="1") == {
        "level": "status",
        "code": "NetStream.Publish.Start",
        "description": "live/a",
        "clientid": "1",
    }


@pytest.mark.parametrize(
    ("code", "level"),
    [
        # Levels as Adobe's NetStatusEvent reference lists them.
        (StatusCode.CONNECT_SUCCESS, "status"),
        (StatusCode.CONNECT_CLOSED, "status"),
        (StatusCode.CONNECT_APP_SHUTDOWN, "error"),
        (StatusCode.CONNECT_INVALID_APP, "error"),
        (StatusCode.CONNECT_REJECTED, "error"),
        (StatusCode.CALL_FAILED, "error"),
        (StatusCode.PUBLISH_BAD_NAME, "error"),
        (StatusCode.PLAY_STREAM_NOT_FOUND, "error"),
        (StatusCode.PLAY_INSUFFICIENT_BW, "warning"),
        (StatusCode.UNPUBLISH_SUCCESS, "status"),
        (StatusCode.OBJECT_NO_WRITE_ACCESS, "error"),
    ],
)
def test_status_levels(code: StatusCode, level: str) -> None:
    assert status(code)["level"] == level


CODES = {
    # NetStatusEvent.info, those that a server sends.
    "status": """
        NetConnection.Connect.Closed NetConnection.Connect.IdleTimeout NetConnection.Connect.Success
        NetStream.Data.Start NetStream.Pause.Notify NetStream.Play.Complete NetStream.Play.PublishNotify
        NetStream.Play.Reset NetStream.Play.Start NetStream.Play.Stop NetStream.Play.Switch
        NetStream.Play.Transition NetStream.Play.TransitionComplete NetStream.Play.UnpublishNotify
        NetStream.Publish.Idle NetStream.Publish.Start NetStream.Record.Start NetStream.Record.Stop
        NetStream.Seek.Notify NetStream.Unpause.Notify NetStream.Unpublish.Success
        NetConnection.Connect.ReconnectRequest
        """,
    "warning": "NetStream.Play.InsufficientBW",
    "error": """
        NetConnection.Call.BadVersion NetConnection.Call.Failed NetConnection.Call.Prohibited
        NetConnection.Connect.AppShutdown NetConnection.Connect.Failed NetConnection.Connect.InvalidApp
        NetConnection.Connect.Rejected NetStream.Failed NetStream.Play.Failed
        NetStream.Play.FileStructureInvalid NetStream.Play.NoSupportedTrackFound
        NetStream.Play.StreamNotFound NetStream.Publish.BadName NetStream.Publish.Denied
        NetStream.Record.AlreadyExists NetStream.Record.Failed NetStream.Record.NoAccess
        NetStream.Seek.Failed NetStream.Seek.InvalidTime SharedObject.BadPersistence
        SharedObject.NoReadAccess SharedObject.NoWriteAccess SharedObject.ObjectCreationFailed
        """,
}


@pytest.mark.parametrize("level", CODES)
def test_every_code_has_its_level(level: str) -> None:
    assert {str(code) for code in StatusCode if code.level == level} == set(CODES[level].split())


def test_codes_go_out_as_plain_text() -> None:
    assert type(status(StatusCode.SEEK_NOTIFY)["code"]) is str
