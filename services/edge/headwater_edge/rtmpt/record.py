"""What is stored of an RTMPT session with each answer, so that another edge can go on with it.

A record is a msgpack array: VERSION, then the fields of `Record` in their order. Later versions may add fields at the end, and
items at the end of rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import msgpack
from headwater_bus.traffic import FromClient, FromGuest
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message
from headwater_rtmp.rtmpt import Sequence

from headwater_edge.attachment import Attachment
from headwater_edge.client import Phase
from headwater_edge.object_members import restore_member
from headwater_edge.publishing import Publication
from headwater_edge.routes import ObjectRoutes
from headwater_edge.rtmpt.client import TunnelClient
from headwater_edge.standing import RestoredPlayer

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

VERSION = 1


class RecordError(ValueError):
    """A record that cannot be read."""


@dataclass(slots=True)
class Record:
    """`sequence` and `answer` of the last request that changed something (`unsure`: see `rtmpt.Sequence`), `polls` as
    `PollPacing` dumps it; `output` waits for the next answers. `edge`: the boot id of who wrote it. `phase` of the client;
    CLOSED: only the answer is left.

    `connect` [type id, payload] or empty; `early` and `gated` rows [type id, stream id, timestamp, payload]. `attachments`: the
    home first, rows [group, accepted, sent, applied, heard, state, kept], `kept` rows [number, type id, stream id, timestamp,
    payload] of a client's messages and two more, access and denied, of a guest's. `routes` as `ObjectRoutes` dumps them, with
    indexes of attachments.

    `players` rows [stream id, attachment, name, position, audio, video, paused]; `publications` rows [stream id, attachment,
    number, headers, kept], `headers` rows [type id, timestamp, payload], `kept` with the number in front; `objects` rows
    [attachment, name, persistent, version, events]: what the session was told of each. An attachment is given by its index."""

    sequence: int
    answer: bytes
    polls: int
    output: bytes
    edge: str
    session_id: str
    address: str
    secure: bool
    phase: int
    object_encoding: int = 0
    identity: str = ""
    proof: bytes = b""
    rtmp: list[Any] = field(default_factory=list)
    connect: list[Any] = field(default_factory=list)
    early: list[list[Any]] = field(default_factory=list)
    gated: list[list[Any]] = field(default_factory=list)
    spread_objects: bool = False
    attachments: list[list[Any]] = field(default_factory=list)
    routes: list[Any] = field(default_factory=list)
    stream_groups: list[list[Any]] = field(default_factory=list)
    players: list[list[Any]] = field(default_factory=list)
    publications: list[list[Any]] = field(default_factory=list)
    objects: list[list[Any]] = field(default_factory=list)
    unsure: bool = False

    @property
    def wants_to_connect(self) -> bool:
        """Whether its credentials are still looked at, before its home hears of it."""
        return self.phase == Phase.CONNECTING and bool(self.gated)


_COUNT = len(fields(Record))
_LEAST_COUNT = _COUNT - 1
"""Of the first version."""


def pack(record: Record) -> bytes:
    """For the store."""
    values = [getattr(record, one.name) for one in fields(Record)]
    packed: bytes = msgpack.packb([VERSION, *values], unicode_errors="surrogatepass")
    return packed


def unpack(data: bytes) -> Record:
    """What `pack` gave. Raises RecordError."""
    try:
        version, *values = msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RecordError(f"no record, expected a msgpack array [version, fields...]: {error}") from error
    if version != VERSION or len(values) < _LEAST_COUNT:
        raise RecordError(
            f"a record of version {version} with {len(values)} fields, expected {VERSION} and at least {_LEAST_COUNT}"
        )
    return Record(*values[:_COUNT])


def record_of(client: TunnelClient, boot: str, sequence: Sequence, answer: bytes, polls: int) -> Record:
    """The session as it is now, but for what waits in the fan-outs of streams, which it was not told. `boot`: this edge's."""
    record = Record(
        sequence.last,
        answer,
        polls,
        client.outbox.rest(),
        boot,
        client.session_id,
        client.address,
        client.transport == "rtmpts",
        int(client.phase),
        unsure=sequence.unsure,
    )
    if not client.closed:
        _describe(client, record)
    return record


def _describe(client: TunnelClient, record: Record) -> None:
    """What a session needs to go on, which has not ended."""
    attachments = client.attachments
    index = {attachment.number: at for at, attachment in enumerate(attachments)}
    record.object_encoding, record.identity, record.proof = (
        client.object_encoding,
        client.identity,
        client.proof,
    )
    record.rtmp = client.rtmp.dump()
    if client.connect is not None:
        record.connect = [int(client.connect.type_id), client.connect.payload]
    record.early, record.gated = _messages(client.early), _messages(client.gated)
    record.spread_objects = client.spread_objects
    record.attachments = [_attachment_row(attachment) for attachment in attachments]
    if client.routes is not None:
        record.routes = client.routes.dump(attachments)
    record.stream_groups = [list(row) for row in (client.stream_groups or {}).items()]
    record.players = _player_rows(client, index)
    record.publications = [
        _publication_row(stream_id, publication, index)
        for stream_id, publication in (client.publications or {}).items()
    ]
    record.objects = [
        [index[number], replica.name, replica.persistent, *replica.member_state(number)]
        for replica, number in (client.objects or {}).items()
    ]


def _messages(messages: Iterable[Message] | None) -> list[list[Any]]:
    return [[int(m.type_id), m.stream_id, m.timestamp, bytes(m.payload)] for m in messages or ()]


def _attachment_row(attachment: Attachment) -> list[Any]:
    kept: list[list[Any]] = []
    for sent in attachment.unacknowledged or ():
        row = [sent.number, sent.type_id, sent.stream_id, sent.timestamp, bytes(sent.payload)]
        kept.append([*row, sent.access, sent.denied] if isinstance(sent, FromGuest) else row)
    return [
        attachment.group,
        attachment.accepted,
        attachment.sent,
        attachment.applied,
        attachment.heard,
        attachment.state,
        kept,
    ]


def _player_rows(client: TunnelClient, index: dict[int, int]) -> list[list[Any]]:
    rows = [
        [
            stream_id,
            index[player.number],
            player.fanout.name,
            player.fanout.position_of(player),
            player.audio,
            player.video,
            player.paused,
        ]
        for stream_id, player in (client.players or {}).items()
    ]
    return rows + [
        [stream_id, index[one.number], one.name, one.position, one.audio, one.video, one.paused]
        for stream_id, one in (client.restored or {}).items()
    ]


def _publication_row(stream_id: int, publication: Publication, index: dict[int, int]) -> list[Any]:
    return [
        stream_id,
        index[publication.attachment.number],
        publication.number,
        [[int(m.type_id), m.timestamp, bytes(m.payload)] for m in publication.headers()],
        [[number, int(m.type_id), m.timestamp, bytes(m.payload)] for number, m in publication.not_taken()],
    ]


# Back


def restore(edge: "Edge", record: Record, client: TunnelClient) -> None:
    """Make a fresh client of this edge what the record says. Raises RecordError; the client is to be closed then."""
    try:
        _restore(edge, record, client)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RecordError(f"the record of a session cannot be read: {error!r}") from error


def _restore(edge: "Edge", record: Record, client: TunnelClient) -> None:
    config = edge.config
    client.session_id, client.phase = record.session_id, Phase(record.phase)
    if record.output:
        client.outbox.restore(record.output)
    if client.phase == Phase.CLOSED:
        return
    client.object_encoding, client.spread_objects = record.object_encoding, record.spread_objects
    client.identity, client.proof = record.identity, record.proof
    client.rtmp = Connection.load(record.rtmp, edge.chunk_limits, config.window_ack_bytes)
    if client.phase == Phase.CONNECTED and client.rtmp.chunk_size != config.chunk_size:
        # That of the former edge. Who is told the same as others here gets it in chunks of this one's.
        client.outbox.put(client.rtmp.send_chunk_size(config.chunk_size))
    if record.connect:
        client.connect = Message(record.connect[0], 0, 0, record.connect[1])
    if client.phase == Phase.CONNECTING:
        client.early = [Message(*row[:4]) for row in record.early]
    attachments = _attachments(edge, record, client)
    if record.routes:
        client.routes = ObjectRoutes.load(record.routes, attachments)
    if record.stream_groups:
        client.stream_groups = {row[0]: row[1] for row in record.stream_groups}
    if record.players:
        client.restored = {
            row[0]: RestoredPlayer(attachments[row[1]].number, *row[2:7]) for row in record.players
        }
    for stream_id, at, number, headers, kept, *_ in record.publications:
        publication = Publication(attachments[at], 0, config.ring_s, config.ring_bytes, client.holds)
        publication.restore(
            number,
            [Message(row[0], stream_id, row[1], row[2]) for row in headers],
            [(row[0], Message(row[1], stream_id, row[2], row[3])) for row in kept],
        )
        if client.publications is None:
            client.publications = {}
        client.publications[stream_id] = publication
    for at, name, persistent, version, events, *_ in record.objects:
        attachment = attachments[at]
        restore_member(
            edge, edge.cluster.groups[attachment.group], attachment, name, persistent, (version, events)
        )


def _attachments(edge: "Edge", record: Record, client: TunnelClient) -> list[Attachment]:
    attachments: list[Attachment] = []
    for at, (group, accepted, sent, applied, heard, state, kept, *_) in enumerate(record.attachments):
        attachment = client.home if at == 0 else Attachment(client, edge.next_number(), group)
        attachment.group = group
        attachment.restore(accepted, sent, applied, heard, state)
        for row in kept:
            attachment.keep(_sent(attachment.number, row))
        if at:
            if client.guests is None:
                client.guests = {}
            client.guests[group] = attachment
        if group and not (at == 0 and record.wants_to_connect):
            edge.cluster.restore(attachment)
        attachments.append(attachment)
    return attachments


def _sent(session: int, row: list[Any]) -> FromClient | FromGuest:
    number, type_id, stream_id, timestamp, payload, *guest = row
    if guest:
        access, denied = guest[:2]
        return FromGuest(session, number, access, denied, type_id, stream_id, timestamp, payload)
    return FromClient(session, number, type_id, stream_id, timestamp, payload)
