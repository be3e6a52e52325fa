"""Spread streams at a client's home: what it asks for is sent on to the group that the stream is, where the client is a guest.
What the guest publishes and plays there the edge reports back, for the application's hooks.
"""

from typing import Any

from headwater_bus.traffic import GuestStream, Routed
from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message

from headwater_origin import hooks
from headwater_origin.session import Session
from headwater_origin.streams.net_stream import NetStream


def group_of(session: Session, name: str) -> str:
    """The group of a stream of the session's scope."""
    return f"{session.group.scope}#stream:{name}"


def is_published(session: Session, net_stream: NetStream, name: str, proof: bytes) -> bool:
    """Whether another one than this message stream publishes it, as far as has been reported, and need not make way for one with
    this proof. The stream's group has the last word."""
    publisher = session.group.streams.published_elsewhere.get(group_of(session, name))
    if publisher is None or publisher == (session.session_id, net_stream.id):
        return False
    session_id, stream_id = publisher
    its_session = session.group.by_id.get(session_id)
    if its_session is None:
        return not proof  # Its link is lost.
    its_stream = its_session.streams.get(stream_id)
    return not proof or its_stream is None or its_stream.proof != proof


def send_command(session: Session, net_stream: NetStream, name: str, *args: str | float | bool) -> None:
    """Have the guest run a command on this message stream. It is made anew: what else the client said, the query behind the
    name say, is for the home alone."""
    message = encode_command(name, 0, None, *args, stream_id=net_stream.id, amf3=session.amf3)
    send_message(session, net_stream.route, message)


def send_message(session: Session, group: str, message: Message) -> None:
    """Have the edge send a message on, from the guest that the client is there."""
    routed = Routed(
        session.number,
        group,
        0,
        0,
        [],
        message.type_id,
        message.stream_id,
        message.timestamp,
        message.payload,
    )
    session.group.reply(session, routed)


def end(session: Session, net_stream: NetStream, name: str = "closeStream", *args: bool) -> None:
    """Have the guest end what it does on this message stream, by this command. The stream's name is free from here on: who
    publishes it next may be there before the report."""
    send_command(session, net_stream, name, *args)
    _set_free(session, net_stream.id, net_stream.route)
    net_stream.route = ""
    session.mark_state()


def guest_stream(session: Session, envelope: GuestStream) -> None:
    """A stream of a client of ours has begun or ended where it was sent on to."""
    net_stream = session.streams.get(envelope.stream_id)
    group = envelope.group or (net_stream.route if net_stream is not None else "")
    if not group.startswith(group_of(session, "")):
        session.group.counters.stray_messages += 1
        return
    if session.guest_streams is None:
        session.guest_streams = set()
    about = (envelope.stream_id, group, envelope.publishes)
    session.mark_state()
    if envelope.started:
        session.guest_streams.add(about)
        if envelope.publishes:
            session.group.streams.published_elsewhere[group] = (session.session_id, envelope.stream_id)
    elif about in session.guest_streams:
        session.guest_streams.remove(about)
        _ended(session, *about)


def resume(session: Session, rows: list[list[Any]], now: list[list[Any]]) -> None:
    """A session goes on: what it published and played elsewhere (`rows`: stream id, group, publishes), as far as was reported,
    and what it does `now`."""
    before = {(stream_id, group, bool(publishes)) for stream_id, group, publishes in rows}
    session.guest_streams = {(stream_id, group, bool(publishes)) for stream_id, group, publishes in now}
    for stream_id, group, publishes in session.guest_streams:
        if publishes:
            session.group.streams.published_elsewhere[group] = (session.session_id, stream_id)
    if before != session.guest_streams:
        session.mark_state()
    for about in sorted(before - session.guest_streams):
        _ended(session, *about)


def forget(session: Session) -> None:
    """The client is gone, and so is what it published and played elsewhere."""
    ended, session.guest_streams = session.guest_streams, None
    for about in sorted(ended or ()):
        _ended(session, *about)


def _ended(session: Session, stream_id: int, group: str, publishes: bool) -> None:
    if publishes:
        _set_free(session, stream_id, group)
    hook = "on_unpublish" if publishes else "on_stop_play"
    if session.group.waits(hook):
        name = group.removeprefix(group_of(session, ""))
        session.post(lambda: hooks.tell(session.group, hook, session.client, name), waits=True, always=True)


def _set_free(session: Session, stream_id: int, group: str) -> None:
    """Unless another one publishes it by now."""
    publishers = session.group.streams.published_elsewhere
    if publishers.get(group) == (session.session_id, stream_id):
        del publishers[group]
