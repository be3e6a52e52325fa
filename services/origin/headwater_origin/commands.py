"""Which function answers which command of a client, in the client's order (RTMP 1.0, section 7.2)."""

from collections.abc import Callable
from functools import partial

from headwater_rtmp.command import Command
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.status import StatusCode, status

from headwater_origin import bandwidth, hooks
from headwater_origin.application import remote_method, runs_once
from headwater_origin.errors import CallError, StoreUnavailable
from headwater_origin.session import Session
from headwater_origin.streams import netstreams

Handler = Callable[[Session, Command], None]


def check_bandwidth(session: Session, command: Command) -> None:
    """_checkbw: nothing is measured. The client is told that it is over (onBWDone), once: some ask again when they hear it."""
    if command.transaction_id:
        session.reply_command("_result", command.transaction_id, None, None)
    if not session.bandwidth_done:
        session.bandwidth_done = True
        session.reply_command("onBWDone", 0, None)


def close(session: Session, command: Command) -> None:
    """close: the client says that it goes."""
    session.drop("closed by the client")


def call_remote(session: Session, command: Command) -> None:
    """A `@remote` method of the application: its result, or `_error`. A name that is none is answered too (7.2.1.2)."""
    group, transaction = session.group, command.transaction_id
    group.counters.calls += 1
    method = remote_method(group.application, command.name)
    if method is not None and group.stalled:
        group.counters.calls_failed += 1
        if transaction:
            info = status(StatusCode.CALL_FAILED, str(StoreUnavailable()))
            session.reply_command("_error", transaction, None, info)
        return
    try:
        if method is None:
            raise CallError(StatusCode.CALL_FAILED, f"there is no method {command.name[:64]!r} to call")
        if runs_once(method):
            _begin_once(session)
        result = hooks.call_remote(group, method, (session.client, *command.args))
        if transaction and not session.closed:
            session.send_command("_result", transaction, None, result)
    except CallError as error:
        _failed(session, transaction, error)
    except LocalProtocolError as error:
        hooks.failed(group, command.name, error)
        _failed(session, transaction, CallError(StatusCode.CALL_FAILED, "the result has no AMF form"))


def _begin_once(session: Session) -> None:
    """Note in the journal that a call begins which must not run twice. Raises CallError where it has begun already, on an origin
    that has died since."""
    durable, number = session.group.durable, session.handling
    if durable.members.started.get(session.session_id) == number:
        durable.applied(session, number)
        raise CallError("NetConnection.Call.Interrupted", "the origin died while the method ran")
    durable.started(session, number)
    session.group.flushed()


def _failed(session: Session, transaction: float, error: CallError) -> None:
    session.group.counters.calls_failed += 1
    if transaction and not session.closed:
        info = {**status(StatusCode.CALL_FAILED, str(error.description)), "code": str(error.code)}
        session.send_command("_error", transaction, None, info)


COMMANDS: dict[str, Handler] = {
    "_checkbw": check_bandwidth,
    "checkBandwidth": bandwidth.check_bandwidth,
    "close": close,
    "closeStream": netstreams.close_stream,
    "createStream": netstreams.create_stream,
    "deleteStream": netstreams.delete_stream,
    "FCPublish": netstreams.fc_publish,
    "FCSubscribe": netstreams.fc_subscribe,
    "FCUnpublish": netstreams.fc_unpublish,
    "FCUnsubscribe": netstreams.fc_unsubscribe,
    "getStreamLength": netstreams.get_stream_length,
    "initStream": netstreams.release_stream,
    "pause": netstreams.pause,
    "pauseRaw": netstreams.pause,
    "play": netstreams.play,
    "publish": netstreams.publish,
    "receiveAudio": netstreams.receive_audio,
    "receiveVideo": netstreams.receive_video,
    "releaseStream": netstreams.release_stream,
    "seek": netstreams.seek,
}
"""Commands that the origin answers itself; every other name is a call of the application's."""

_HOOKS = {"publish": "on_publish", "play": "on_play"}


def run_command(session: Session, command: Command, size: int, number: int = 0) -> None:
    """Carry out a command when its turn comes; `size`: its bytes, `number` of the client's message. Answers to calls of ours do
    not wait for their turn: what has the turn may be waiting for them."""
    if command.is_answer:
        session.answered(command)
        # It counts as done in its turn, as what comes before it does.
        session.post(lambda: None, waits=False, number=number)
        return
    handler = COMMANDS.get(command.name)
    if handler is None:
        waits = remote_method(session.group.application, command.name) is not None
        session.post(partial(call_remote, session, command), waits=waits, size=size, number=number)
        return
    hook = _HOOKS.get(command.name)
    waits = hook is not None and session.group.waits(hook)
    session.post(partial(handler, session, command), waits=waits, size=size, number=number)
