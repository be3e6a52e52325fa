"""What edges and origins say to each other about sessions, streams and SharedObjects.

Every envelope travels on the sequenced link (`headwater_bus.link`), so none is lost, doubled or reordered
while both ends live. `session`, `stream` and `shared_object` are small integers that mean something on one
link only: the edge counts its sessions, the origin numbers the streams and objects it tells an edge about.
Payloads are opaque here; the edge and the origin agree on them. They are RTMP message bodies, and with SharedObjects msgpack
arrays of rows (`headwater_bus.rows`), packed once for all edges.
"""

from dataclasses import dataclass, field

_FRAME = {"frame": True}


@dataclass(frozen=True, slots=True)
class Attach:
    """Edge -> origin: a client sent `connect`; it wants `group` at `epoch`. Answered by Attached, ToClient +
    CloseSession (rejected by the application) or AttachRefused. `session_id` names the session in the whole
    cluster. `payload` is the body of its connect command, `type_id` 20 (AMF0) or 17 (AMF3)."""

    session: int
    session_id: str
    group: str
    epoch: int
    address: str
    object_encoding: int
    type_id: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class Attached:
    """Origin -> edge: the application accepted the session; its `_result` follows as ToClient."""

    session: int


@dataclass(frozen=True, slots=True)
class AttachRefused:
    """Origin -> edge: this origin does not own the group at that epoch (any more). The edge looks the group up again."""

    session: int
    group: str
    reason: str


@dataclass(frozen=True, slots=True)
class Detach:
    """Edge -> origin: the client is gone. The origin forgets the number; it answers nothing."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class FromClient:
    """Edge -> origin: a command, data or SharedObject message of a client. `timestamp` in ms."""

    session: int
    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class ToClient:
    """Origin -> edge: a message for one client, sent to it as it is."""

    session: int
    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Origin -> edge: send what is queued, then close the client. The edge answers with Detach."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class PublishStarted:
    """Origin -> edge: `session` publishes `stream` on its message stream `stream_id`; audio, video and data
    messages that it sends there travel as PublisherMedia from now on."""

    session: int
    stream_id: int
    stream: int
    name: str


@dataclass(frozen=True, slots=True)
class PublishStopped:
    """Origin -> edge: the publisher's message stream no longer publishes."""

    session: int
    stream_id: int


@dataclass(frozen=True, slots=True)
class PublisherMedia:
    """Edge -> origin: one media message of a publisher. `number` counts the stream's messages from 1."""

    stream: int
    number: int
    type_id: int
    timestamp: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """Origin -> edge: the edge has its first player of this stream. What the origin's cache holds follows as
    StreamMedia, then the live messages, each once however many players the edge has."""

    stream: int
    name: str


@dataclass(frozen=True, slots=True)
class StreamMedia:
    """Origin -> edge: one media message of a stream, to be fanned out to the edge's players."""

    stream: int
    number: int
    type_id: int
    timestamp: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class StreamReset:
    """Origin -> edge: the publisher ended or changed; the edge empties the stream's cache, players stay."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """Origin -> edge: the edge's last player left; the number is free."""

    stream: int


@dataclass(frozen=True, slots=True)
class PlayStarted:
    """Origin -> edge: `session` plays `stream` on message stream `stream_id` from the edge's cache on."""

    session: int
    stream_id: int
    stream: int


@dataclass(frozen=True, slots=True)
class PlayChanged:
    """Origin -> edge: which media the player wants now (receiveAudio, receiveVideo, pause)."""

    session: int
    stream_id: int
    audio: bool
    video: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class PlayStopped:
    """Origin -> edge: the player no longer plays on that message stream."""

    session: int
    stream_id: int


@dataclass(frozen=True, slots=True)
class ObjectOpened:
    """Origin -> edge: the number and the whole content of a SharedObject of a scope, before its first ObjectJoined. From here
    to ObjectClosed the edge keeps a replica: it applies every ObjectUpdate, members or not. Rows of `payload`: [key, value];
    values are AMF0-framed bytes (AMF3 behind an 0x11 marker)."""

    shared_object: int
    name: str
    persistent: bool
    version: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class ObjectJoined:
    """Origin -> edge: `session` uses the object (again). The edge sends UseSuccess, Clear and the content of its replica."""

    session: int
    shared_object: int


@dataclass(frozen=True, slots=True)
class ObjectUpdate:
    """Origin -> edge, once per edge: the events of one commit, in order. Rows of `payload`: [event type, key, value]; the type is
    the wire's for the others (4 Change, 6 SendMessage, 8 Clear, 9 Remove). `session` is who asked, where it is on this edge,
    else 0: for a Change it gets Success instead, and so it does for a Remove with a value, which answers a change to null
    or undefined."""

    shared_object: int
    version: int
    session: int
    payload: bytes = field(metadata=_FRAME)


@dataclass(frozen=True, slots=True)
class ObjectLeft:
    """Origin -> edge: `session` no longer uses the object."""

    session: int
    shared_object: int


@dataclass(frozen=True, slots=True)
class ObjectClosed:
    """Origin -> edge: no session of this edge has used the object for a while; the replica and the number are free."""

    shared_object: int


@dataclass(frozen=True, slots=True)
class ObjectAnswer:
    """Origin -> edge: what `session` alone is told about its requests, as one message. Rows of `payload`: [event type, text]:
    [7, code] a status of level error, [5, key] Success, [9, key] the slot as the replica has it (Change or Remove), [8, ""]
    Clear and the content of the replica."""

    session: int
    shared_object: int
    payload: bytes = field(metadata=_FRAME)


TRAFFIC: dict[int, type] = {
    1: Attach,
    2: Attached,
    3: AttachRefused,
    4: Detach,
    5: FromClient,
    6: ToClient,
    7: CloseSession,
    10: PublishStarted,
    11: PublishStopped,
    12: PublisherMedia,
    13: StreamOpened,
    14: StreamMedia,
    15: StreamReset,
    16: StreamClosed,
    17: PlayStarted,
    18: PlayChanged,
    19: PlayStopped,
    30: ObjectOpened,
    31: ObjectJoined,
    32: ObjectUpdate,
    33: ObjectLeft,
    34: ObjectClosed,
    35: ObjectAnswer,
}
"""Kind numbers on the wire. A number is never used again for another envelope."""
