"""What an edge tells the origin of a group of a session that is to be in it: see `traffic.Attach`."""

from dataclasses import dataclass
from typing import Any

from headwater_bus.codec import constructor
from headwater_bus.traffic import Attach

from headwater_edge.attachment import Attachment
from headwater_edge.client import Client
from headwater_edge.groups import EdgeGroup
from headwater_edge.objects import ObjectFanout

_make_attach = constructor(Attach)
_NONE = -1
"""Version and count of a replica that is no copy."""


@dataclass(frozen=True, slots=True)
class RestoredPlayer:
    """What a session plays on one of its message streams, as another edge has stored it, by the attachment `number`: it has the
    stream `name` up to message `position`."""

    number: int
    name: str
    position: int
    audio: bool
    video: bool
    paused: bool


def attach_envelope(group: EdgeGroup, attachment: Attachment) -> Attach:
    """Ask the origin to take a session, or to go on with it."""
    client, resumed = attachment.client, attachment.accepted
    type_id, payload = 0, b""
    if attachment.is_home:
        assert client.connect is not None
        type_id, payload = client.connect.type_id, client.connect.payload
    attach: Attach = _make_attach(
        attachment.number,
        client.session_id,
        group.name,
        group.epoch,
        client.address,
        client.object_encoding,
        resumed,
        type_id,
        attachment.applied,
        attachment.heard,
        attachment.state,
        _objects(attachment) if resumed else [],
        _streams(group, attachment) if resumed else [],
        _guest_streams(client) if resumed and attachment.is_home else [],
        client.fence,
        client.proof,
        payload,
    )
    return attach


def _objects(attachment: Attachment) -> list[list[Any]]:
    return [
        _object(replica, number)
        for replica, number in (attachment.client.objects or {}).items()
        if number == attachment.number
    ]


def _object(replica: ObjectFanout, number: int) -> list[Any]:
    """Where the replica lacks a commit it is none: the origin gives the content again."""
    has = (_NONE, _NONE) if replica.stale else (replica.slots.version, replica.events)
    told = replica.told(number)
    if replica.is_restored(number):
        return [replica.name, replica.persistent, *has, *told, True]
    return [replica.name, replica.persistent, *has, *(() if told == has else told)]


def _streams(group: EdgeGroup, attachment: Attachment) -> list[list[Any]]:
    players = attachment.client.players or {}
    # Two NetStreams of a client may play the same.
    last = {
        player.fanout.name: player.fanout.last_number
        for player in players.values()
        if player.number == attachment.number
    }
    restored = {
        stream_id: player
        for stream_id, player in (attachment.client.restored or {}).items()
        if player.number == attachment.number
    }
    for player in restored.values():
        fanout = group.streams.get(player.name)
        # Others here play it. What the origin has opened it knows itself.
        if fanout is not None and not fanout.number:
            last[player.name] = fanout.last_number
    rows: list[list[Any]] = [[name, number] for name, number in last.items()]
    return rows + [[player.name, player.position, stream_id] for stream_id, player in restored.items()]


def _guest_streams(client: Client) -> list[list[Any]]:
    groups = {guest.number: guest.group for guest in (client.guests or {}).values()}
    published = [
        [stream_id, groups[publication.attachment.number], True]
        for stream_id, publication in (client.publications or {}).items()
        if publication.attachment.number in groups
    ]
    played = [
        [stream_id, groups[player.number], False]
        for stream_id, player in (client.players or {}).items()
        if player.number in groups
    ]
    restored = [
        [stream_id, groups[player.number], False]
        for stream_id, player in (client.restored or {}).items()
        if player.number in groups
    ]
    return published + played + restored
