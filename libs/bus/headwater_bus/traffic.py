"""What edges and origins say to each other: about sessions and streams here, about SharedObjects in `object_traffic`; the table
of all of it.

Every envelope travels on the sequenced link (`headwater_bus.link`), so none is lost, doubled or reordered
while both ends live. When a link is given up, or a group has another origin, its sessions go on over another link: see Attach.
`session` is a small integer, the edge's own; `stream` and `shared_object` are the origin's, and mean something on one
link only.
Payloads are opaque here; the edge and the origin agree on them. They are RTMP message bodies, and with SharedObjects msgpack
arrays of rows (`headwater_bus.rows`), packed once for all edges.
"""

from dataclasses import dataclass, field
from typing import Any

from headwater_bus.codec import FRAME
from headwater_bus.object_traffic import (
    ObjectAnswer,
    ObjectClosed,
    ObjectJoined,
    ObjectLeft,
    ObjectOpened,
    ObjectReply,
    ObjectRequest,
    ObjectResumed,
    ObjectResync,
    ObjectUpdate,
)


@dataclass(frozen=True, slots=True)
class Attach:
    """Edge -> origin: a session wants `group` at `epoch`. Answered by Attached, ToClient + CloseSession (rejected by the
    application) or AttachRefused. `session` is a number of this edge for this session in this group, `session_id` names the
    session in the whole cluster. `type_id` 20 (AMF0) or 17 (AMF3): the session's home, the scope that it connects to; `payload`
    is the body of its connect command. `type_id` 0: it is a guest of the group (one of a spread scope, or another scope whose
    object it uses), and its home has allowed what it will ask for; `payload` is empty, or the name of a scope whose application
    is the guest itself.

    `resumed`: the session had this group before, at another origin or over another link, and goes on: what of it was not
    acknowledged comes right behind, without waiting for the answer. The edge then says what it knows: `applied` and `heard` are
    the last numbers of Applied, `state` the last SessionState. `objects` rows [name, persistent, version, events]: replicas
    that the edge has and that the session is a member of (-1, -1: it lacks a commit); where the session was told less of one, two
    more, the version and events that it was told; `streams` rows [name, number]: the last message of media that the edge
    has of each stream that it plays; `guest_streams` rows [stream id, group, publishes]: what it does elsewhere now.

    `fence` above 0: the session may go from edge to edge (RTMPT), and this edge has it since it took this fence from the store.
    The origin ignores an older one (SessionTaken), and takes for heard only what the edge says is (Heard). Such a session may
    be new to its edge: then its rows of `objects` have seven items, what it was told over the edge before and True, and its
    rows of `streams` three, [name, number, stream id]: the session has the stream up to that number, however far this edge has
    it. Rows of two are there for such a stream as well, where the edge had it of another origin or link for others.

    `proof`: a digest of what shows who the client is (its credentials, or its address): who publishes with the same one is the
    same."""

    session: int
    session_id: str
    group: str
    epoch: int
    address: str
    object_encoding: int
    resumed: bool
    type_id: int
    applied: int
    heard: int
    state: bytes
    objects: list[list[Any]]
    streams: list[list[Any]]
    guest_streams: list[list[Any]]
    fence: int = 0
    proof: bytes = b""
    payload: bytes = field(default=b"", metadata=FRAME)


@dataclass(frozen=True, slots=True)
class Attached:
    """Origin -> edge: the session is accepted; a home's `_result` follows as ToClient. `number` of the session's last message
    that the group has applied (0: none): the edge keeps none up to it any more. `spread_objects`: each SharedObject message of
    the session that this home gets is answered with Routed or Unrouted. `epoch`: that of the Attach which this answers (0: not
    told), for an edge may have asked anew over the same link meanwhile."""

    session: int
    number: int
    spread_objects: bool
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class AttachRefused:
    """Origin -> edge: this origin does not own the group at that epoch (any more), or does not know the session (any more). The
    edge looks the group up again. `epoch` as in Attached."""

    session: int
    group: str
    reason: str
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """Origin -> edge, the last envelope of a batch: how far the origin is with sessions. `rows` are flat triples [session,
    number, entry, ...]. What the session sent up to `number` is done and committed, and all that it caused for this session has
    been said before, in this batch or an earlier one: the edge need not keep it. `entry`: of the group's journal, the last one of
    which this session has been told what it says to it. Both only grow. If it is lost with the link, nothing else of its batch
    has come either."""

    rows: list[int]


@dataclass(frozen=True, slots=True)
class SessionState:
    """Origin -> edge: what a successor needs to know of a session beside the journal (its message streams, what it publishes and
    plays, which objects it uses): the edge keeps the last one and gives it back in Attach. Only origins read it."""

    session: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """Edge -> origin, of sessions with a fence: `rows` are flat triples [session, number, entry, ...], of Applied, up to which
    all that was said to the session is stored where another edge finds it. Until then the origin keeps it. Both only grow; if
    it is lost, a later one says the same."""

    rows: list[int]


@dataclass(frozen=True, slots=True)
class SessionTaken:
    """Origin -> edge: another edge has this session, with a newer fence. This one forgets it without a word; it answers
    nothing."""

    session: int
    fence: int


@dataclass(frozen=True, slots=True)
class SessionsGone:
    """Edge -> origin: these sessions of `group` have ended while the edge was looking for its origin."""

    group: str
    epoch: int
    session_ids: list[str]


@dataclass(frozen=True, slots=True)
class Detach:
    """Edge -> origin: the client is gone. The origin forgets the number; it answers nothing."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class FromClient:
    """Edge -> origin: a command, data or SharedObject message of a client. `number` counts what this session sends to this
    group, FromClient and FromGuest together, from 1. `timestamp` in ms."""

    session: int
    number: int
    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class FromGuest:
    """Edge -> origin: a message of a guest that its home has sent on (Routed). `access` to the SharedObject that it is about,
    bits of `headwater_origin.Access`; the events with these indexes are `denied` to it and answered so. `number` as in
    FromClient."""

    session: int
    number: int
    access: int
    denied: list[int]
    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class Routed:
    """Origin -> edge: the session's home allows this message of it and has it sent on to `group`, as FromGuest; the edge attaches
    the session there if need be. `route` is about the SharedObject of the message: 0 the next message comes here as well, 1 those
    without Use and Release go straight to the group (as FromClient) once every one that was sent here is back, 2 after this
    one nothing goes there any more."""

    session: int
    group: str
    route: int
    access: int
    denied: list[int]
    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class Unrouted:
    """Origin -> edge: a SharedObject message of the session about this object goes nowhere; the client has its answer."""

    session: int
    name: str
    persistent: bool


@dataclass(frozen=True, slots=True)
class GuestStream:
    """Edge -> home origin: a guest's message stream has begun or ended, as the `group` that has the stream says. `publishes`
    or plays; `started` or stopped. Those of two groups come in any order."""

    session: int
    stream_id: int
    publishes: bool
    started: bool
    group: str = ""


@dataclass(frozen=True, slots=True)
class GuestIdle:
    """Origin -> edge: the guest has no stream and no object here after its message `number`. If that was its last, the edge
    detaches it."""

    session: int
    number: int


@dataclass(frozen=True, slots=True)
class ToClient:
    """Origin -> edge: a message for one client, sent to it as it is."""

    session: int
    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Origin -> edge: send what is queued, then close the client. The edge answers with Detach."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class PublishStarted:
    """Origin -> edge: `session` publishes `stream` on its message stream `stream_id`; audio, video and data
    messages that it sends there travel as PublisherMedia from now on. `resumed`: it did so before; the edge first sends the
    headers that it has (with number 0) and what it has kept of the last seconds, with the numbers that these had."""

    session: int
    stream_id: int
    stream: int
    name: str
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class PublishStopped:
    """Origin -> edge: the publisher's message stream no longer publishes."""

    session: int
    stream_id: int


@dataclass(frozen=True, slots=True)
class PublisherMedia:
    """Edge -> origin: one media message of a publisher. `number` counts the publication's messages from 1, whichever origin they
    go to; 0: a header that was sent before, for who joins."""

    stream: int
    number: int
    type_id: int
    timestamp: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """Origin -> edge: the edge has its first player of this stream of `group`. What the origin's cache holds follows as
    StreamMedia, then the live messages, each once however many players the edge has. `after` 0 or more, where the edge has the
    stream still, from another origin or link: it keeps its cache and its players, and what follows is what came after message
    `after`. With -1 it keeps its players only."""

    stream: int
    name: str
    group: str
    after: int = -1


@dataclass(frozen=True, slots=True)
class StreamMedia:
    """Origin -> edge: one media message of a stream, to be fanned out to the edge's players. `number` as in PublisherMedia, 0 for
    what has none; one that the edge has already is dropped."""

    stream: int
    number: int
    type_id: int
    timestamp: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class GatherMedia:
    """Edge -> origin, once the link is up: the edge sends StreamMedia on to its players as it comes, so the origin is to send it,
    of all streams together, once in `interval_ms` at most: at once after a pause, then what has gathered (0: always at once; so
    it does until it is told). If it is lost with the link, so is what it is about."""

    interval_ms: int


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
    """Origin -> edge: `session` plays `stream` on message stream `stream_id` from the edge's cache on. Where it does so already
    (it was resumed) nothing changes. `resumed`, of a session that another edge had: it goes on with the next StreamMedia of the
    stream; what it lacked before that has come as ToClient."""

    session: int
    stream_id: int
    stream: int
    resumed: bool = False


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


TRAFFIC: dict[int, type] = {
    1: Attach,
    2: Attached,
    3: AttachRefused,
    4: Detach,
    5: FromClient,
    6: ToClient,
    7: CloseSession,
    8: FromGuest,
    9: Routed,
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
    20: Unrouted,
    21: GuestStream,
    22: GuestIdle,
    23: Applied,
    24: SessionState,
    25: SessionsGone,
    26: Heard,
    27: SessionTaken,
    28: GatherMedia,
    30: ObjectOpened,
    31: ObjectJoined,
    32: ObjectUpdate,
    33: ObjectLeft,
    34: ObjectClosed,
    35: ObjectAnswer,
    36: ObjectResync,
    37: ObjectRequest,
    38: ObjectReply,
    39: ObjectResumed,
}
"""Kind numbers on the wire. A number is never used again for another envelope."""
