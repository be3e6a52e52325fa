"""NetStream commands (RTMP 1.0, 7.2.2): publish, play and what goes with them, for live streams.

Where streams are spread, a client's home checks and asks the application, and then sends on what is to be done to the group that
the stream is (`routes.py`). There the client is a guest: the same commands run, without an application.
"""

from headwater_amf import UNDEFINED
from headwater_bus.logs import get_log
from headwater_rtmp.command import Command, encode_data
from headwater_rtmp.control import stream_begin
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.names import BadName, split_stream_name
from headwater_origin.session import Session
from headwater_origin.streams import routes as stream_routes
from headwater_origin.streams.net_stream import NetStream, new_stream, play_changed
from headwater_origin.streams.reserved import PROOF_BYTES, publisher_proof

_log = get_log("origin")
_LIVE, _ENDLESS = -1.0, -1.0
"""start and duration of a play (7.2.2.1)."""


def create_stream(session: Session, command: Command) -> None:
    """createStream: a message stream id, or `_error` when there are too many."""
    net_stream = new_stream(session)
    session.mark_state()
    if net_stream is None:
        limit = session.group.config.streams_per_session
        info = status(StatusCode.CALL_FAILED, f"a client has at most {limit} streams")
        session.reply_command("_error", command.transaction_id, None, info)
    else:
        session.reply_command("_result", command.transaction_id, None, float(net_stream.id))


def _net_stream(session: Session, command: Command) -> NetStream | None:
    """The message stream of a command. A guest's has been created at its home."""
    net_stream = session.streams.get(command.stream_id)
    if net_stream is None and session.guest:
        net_stream = session.streams[command.stream_id] = NetStream(command.stream_id)
    return net_stream


def delete_stream(session: Session, command: Command) -> None:
    """deleteStream(id): ends what the stream does and frees its id. Not answered (7.2.2.3)."""
    argument = command.args[0] if command.args else command.stream_id
    net_stream = next((own for own in session.streams.values() if own.id == argument), None)
    if net_stream is not None:
        _end(session, net_stream)
        del session.streams[net_stream.id]
        session.mark_state()


def close_stream(session: Session, command: Command) -> None:
    """closeStream: ends what the stream does; its id stays."""
    net_stream = session.streams.get(command.stream_id)
    if net_stream is not None:
        _end(session, net_stream)


def _end(session: Session, net_stream: NetStream) -> None:
    """What the stream publishes or plays ends, here or where it was sent on to."""
    if net_stream.route:
        stream_routes.end(session, net_stream)
    publication = net_stream.publication
    session.group.streams.stop(session, net_stream)
    if publication is not None:
        info = status(StatusCode.UNPUBLISH_SUCCESS, f"{publication.stream.name} is not published any more")
        session.send_status(net_stream.id, info)


def publish(session: Session, command: Command) -> None:
    """publish(name, type): `live` only. `publish(false)` ends it."""
    net_stream = _net_stream(session, command)
    if net_stream is None:
        _refuse(session, command, StatusCode.PUBLISH_BAD_NAME, "publish on a stream that was not created")
        return
    if command.args and command.args[0] is False:
        _end(session, net_stream)
        return
    try:
        name, query = split_stream_name(command.args[0] if command.args else None)
    except BadName as error:
        _refuse(session, command, StatusCode.PUBLISH_BAD_NAME, str(error))
        return
    kind = command.args[1] if len(command.args) > 1 else "live"
    if kind not in ("live", "", None, UNDEFINED):
        _refuse(
            session, command, StatusCode.PUBLISH_BAD_NAME, f"publish type {str(kind)[:32]!r}: expected 'live'"
        )
        return
    group = session.group
    reason = None
    # What stands behind the name its home has seen, which a guest is told what it comes to.
    proof = _guest_proof(command) if session.guest else publisher_proof(session.proof, query)
    if not _hindrance(session, net_stream, name, proof):
        reason = hooks.allowed(group, "on_publish", session.client, name, query)
        # The hook may have waited: the client may be gone, its stream deleted, the name taken.
        if session.closed or session.streams.get(net_stream.id) is not net_stream:
            return
    # Nothing is said before this, and nothing waits behind it: all that follows is done as a whole.
    hindrance = _hindrance(session, net_stream, name, proof)
    _end(session, net_stream)
    if reason is not None:
        _refuse(session, command, StatusCode.PUBLISH_DENIED, reason)
    elif hindrance:
        _refuse(session, command, StatusCode.PUBLISH_BAD_NAME, hindrance)
    elif group.spread_streams:
        net_stream.proof = proof
        net_stream.route = stream_routes.group_of(session, name)
        session.mark_state()
        shown = [proof.hex()] if proof else []
        stream_routes.send_command(session, net_stream, "publish", name, "live", *shown)
    else:
        net_stream.proof = proof
        group.streams.publish(session, net_stream, name)
        session.reply(stream_begin(net_stream.id))
        session.send_status(net_stream.id, status(StatusCode.PUBLISH_START, f"{name} is published"))


def _published(session: Session, name: str) -> bool:
    stream = session.group.streams.by_name.get(name)
    return stream is not None and (stream.publication is not None or stream.reserved is not None)


def _hindrance(session: Session, net_stream: NetStream, name: str, proof: bytes) -> str:
    """Why the name cannot be published by a message stream that is about to; empty: it can."""
    if not session.group.spread_streams:
        return session.group.streams.hindrance(net_stream, name, proof)
    return (
        f"{name} is published already" if stream_routes.is_published(session, net_stream, name, proof) else ""
    )


def _guest_proof(command: Command) -> bytes:
    """Its home has added it: see `stream_routes.send_command`."""
    shown = command.args[2] if len(command.args) > 2 else ""
    try:
        return bytes.fromhex(shown)[:PROOF_BYTES] if isinstance(shown, str) else b""
    except ValueError:
        return b""


def _refuse(session: Session, command: Command, code: StatusCode, text: str) -> None:
    _log.debug("refused", group=session.group.name, session=session.session_id, code=str(code), reason=text)
    session.send_status(command.stream_id, status(code, text))


def play(session: Session, command: Command) -> None:
    """play(name, start, duration, reset): live streams, so start and duration mean nothing. `play(false)` stops."""
    net_stream = _net_stream(session, command)
    if net_stream is None:
        _refuse(session, command, StatusCode.PLAY_FAILED, "play on a stream that was not created")
        return
    group = session.group
    if command.args and command.args[0] is False:
        if net_stream.route:
            stream_routes.end(session, net_stream, "play", False)
            return
        group.streams.stop(session, net_stream)
        session.send_status(net_stream.id, status(StatusCode.PLAY_STOP, "stopped"))
        return
    try:
        name, query = split_stream_name(command.args[0] if command.args else None)
    except BadName as error:
        _refuse(session, command, StatusCode.PLAY_FAILED, str(error))
        return
    reason = hooks.allowed(group, "on_play", session.client, name, query)
    if session.closed or session.streams.get(net_stream.id) is not net_stream:
        return
    _end(session, net_stream)
    reset = len(command.args) < 4 or command.args[3] is not False
    if reason is not None:
        _refuse(session, command, StatusCode.PLAY_FAILED, reason)
    elif group.spread_streams:
        net_stream.route = stream_routes.group_of(session, name)
        session.mark_state()
        stream_routes.send_command(session, net_stream, "play", name, _LIVE, _ENDLESS, reset)
    elif not (_published(session, name) or group.policy.wait_for_publisher):
        _refuse(session, command, StatusCode.PLAY_STREAM_NOT_FOUND, f"nobody publishes {name}")
    else:
        _start_playing(session, net_stream, name, reset)


def _start_playing(session: Session, net_stream: NetStream, name: str, reset: bool) -> None:
    """The statuses come before PlayStarted, at which the edge begins to send media."""
    stream = session.group.streams.open(name)
    stream.open_for(session.edge)
    net_stream.audio = net_stream.video = True
    net_stream.paused = False
    stream_id = net_stream.id
    session.reply(stream_begin(stream_id))
    if reset:
        session.send_status(
            stream_id, status(StatusCode.PLAY_RESET, f"{name} is played from its start", details=name)
        )
    session.send_status(stream_id, status(StatusCode.PLAY_START, f"{name} is played", details=name))
    # No NetStream.Data.Start, which Flash Media Server sends here: FFmpeg takes it for a data stream without a codec.
    session.reply(encode_data("|RtmpSampleAccess", True, True, stream_id=stream_id))
    stream.add_player(session, net_stream)
    session.mark_state()


def pause(session: Session, command: Command) -> None:
    """pause(flag, ms) and pauseRaw: a paused player gets nothing; unpaused it goes on live, at a keyframe."""
    net_stream = session.streams.get(command.stream_id)
    if net_stream is not None and net_stream.route:
        stream_routes.send_command(
            session, net_stream, "pause", *(argument is True for argument in command.args[:1])
        )
    if net_stream is None or net_stream.playing is None:
        return
    net_stream.paused = command.args[0] is True if command.args else not net_stream.paused
    session.mark_state()
    _changed(session, net_stream)
    name = net_stream.playing.name
    if net_stream.paused:
        info = status(StatusCode.PAUSE_NOTIFY, f"{name} is paused", details=name)
    else:
        info = status(StatusCode.UNPAUSE_NOTIFY, f"{name} goes on", details=name)
    session.send_status(net_stream.id, info)


def receive_audio(session: Session, command: Command) -> None:
    """receiveAudio(flag) (7.2.2.4)."""
    _receive(session, command, "audio")


def receive_video(session: Session, command: Command) -> None:
    """receiveVideo(flag) (7.2.2.5)."""
    _receive(session, command, "video")


def _receive(session: Session, command: Command, kind: str) -> None:
    net_stream = session.streams.get(command.stream_id)
    if net_stream is None:
        return
    wanted = bool(command.args[0]) if command.args else True
    if net_stream.route:
        stream_routes.send_command(session, net_stream, command.name, wanted)
    setattr(net_stream, kind, wanted)
    session.mark_state()
    if net_stream.playing is None:
        return
    _changed(session, net_stream)
    if wanted:
        name = net_stream.playing.name
        session.send_status(net_stream.id, status(StatusCode.SEEK_NOTIFY, f"{name} goes on", details=name))
        session.send_status(net_stream.id, status(StatusCode.PLAY_START, f"{name} is played", details=name))


def _changed(session: Session, net_stream: NetStream) -> None:
    session.group.reply(session, play_changed(session, net_stream))


def seek(session: Session, command: Command) -> None:
    """seek(ms): a live stream has no other place to go to."""
    session.send_status(command.stream_id, status(StatusCode.SEEK_FAILED, "a live stream cannot be sought"))


def release_stream(session: Session, command: Command) -> None:
    """releaseStream(name), which encoders send before publish: nothing is held that could be released."""
    _result(session, command)


def fc_publish(session: Session, command: Command) -> None:
    """FCPublish(name): Flash Media Live Encoder waits for onFCPublish before it publishes."""
    _result(session, command)
    session.reply_command("onFCPublish", 0, None, status(StatusCode.PUBLISH_START, _described(command)))


def fc_unpublish(session: Session, command: Command) -> None:
    """FCUnpublish(name): closeStream or deleteStream, which follows it, ends the publication."""
    _result(session, command)
    session.reply_command("onFCUnpublish", 0, None, status(StatusCode.UNPUBLISH_SUCCESS, _described(command)))


def fc_subscribe(session: Session, command: Command) -> None:
    """FCSubscribe(name): players for content delivery networks wait for onFCSubscribe before they play."""
    _result(session, command)
    session.reply_command("onFCSubscribe", 0, None, status(StatusCode.PLAY_START, _described(command)))


def fc_unsubscribe(session: Session, command: Command) -> None:
    """FCUnsubscribe(name): closeStream or deleteStream ends the play."""
    _result(session, command)


def get_stream_length(session: Session, command: Command) -> None:
    """getStreamLength(name): 0 s, as for everything live."""
    _result(session, command, 0.0)


def _result(session: Session, command: Command, value: float | None = None) -> None:
    if command.transaction_id:
        session.reply_command("_result", command.transaction_id, None, value)


def _described(command: Command) -> str:
    name = command.args[0] if command.args else ""
    return name[:256] if isinstance(name, str) else ""


def early_media(session: Session, message: Message) -> None:
    """Media of a client that publishes and has not waited for the answer: its edge does not know yet that it may."""
    net_stream = session.streams.get(message.stream_id)
    if net_stream is None:
        return
    if net_stream.publication is not None:
        net_stream.publication.take_early(message)
    elif net_stream.route:
        stream_routes.send_message(session, net_stream.route, message)
