"""What edges and origins say to each other about SharedObjects. What `headwater_bus.traffic` says of envelopes holds for these,
too; the table is there."""

from dataclasses import dataclass, field

from headwater_bus.codec import FRAME


@dataclass(frozen=True, slots=True)
class ObjectOpened:
    """Origin -> edge: the number and the whole content of a SharedObject of a scope, before its first ObjectJoined. From here
    to ObjectClosed the edge keeps a replica: it applies every ObjectUpdate, members or not. `events` counts its commits, of
    messages (`send`) too, up to here. From version `base` on differences are known. Rows of `payload` in the order of the last
    changes: [key, value, version]; values are AMF0-framed bytes (AMF3 behind an 0x11 marker), empty for a deleted slot. For a
    number that is open already (the answer to ObjectResync), or an object of `group` that the edge has from another origin or
    link, it replaces the replica: members are told what differs, but not those that are away (see ObjectJoined). Commits that
    the content has already may follow as ObjectUpdate, for those."""

    shared_object: int
    name: str
    persistent: bool
    version: int
    base: int
    events: int
    group: str
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class ObjectResumed:
    """Origin -> edge, instead of ObjectOpened: the replica of this object of `group` that the edge has from another origin or
    link is good up to commit `events`, and has this number now; what is newer follows as ObjectUpdate."""

    shared_object: int
    group: str
    name: str
    persistent: bool
    events: int


@dataclass(frozen=True, slots=True)
class ObjectJoined:
    """Origin -> edge: `session` uses the object (again). The edge sends UseSuccess and, with `since` -1, Clear and the content
    of its replica; otherwise what has changed after version `since`, which the client has, if the replica knows that, else
    likewise. `resumed`, where the session is a member of the replica already: nothing of this. As long as no origin goes on with
    a member it is away, and what the replica learns is held back from it. It is told of that up to commit `since`, in its place
    among what else the session has missed; with -1 all, and from then on everything at once. This comes behind Attached.
    `told`, of a session that another edge had: it has been told up to this commit as ToClient, whatever was held back from
    it."""

    session: int
    shared_object: int
    since: int
    resumed: bool = False
    told: int = -1


@dataclass(frozen=True, slots=True)
class ObjectUpdate:
    """Origin -> edge, once per edge: the events of one commit, in order; `events` is one more than in the last, else the edge
    lacks some and asks with ObjectResync. Rows of `payload`: [event type, key, value]; the type is
    the wire's for the others (4 Change, 6 SendMessage, 8 Clear, 9 Remove). `session` is who asked, where it is on this edge,
    else 0: for a Change it gets Success instead, and so it does for a Remove with a value, which answers a change to null
    or undefined."""

    shared_object: int
    version: int
    events: int
    session: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class ObjectResync:
    """Edge -> origin: the replica lacks a commit. Answered by ObjectOpened."""

    shared_object: int


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """Origin -> origin, which has the object: an application's changes, applied together in this order, and committed. `session`
    is the application's as a guest. Rows of `payload`: [operation, key, value], operations of
    `headwater_origin.objects.operations`. Answered by ObjectReply. `number` counts with those of FromGuest, so that what is sent
    again to the group's next origin is applied once."""

    session: int
    request: int
    name: str
    persistent: bool
    number: int
    payload: bytes = field(metadata=FRAME)


@dataclass(frozen=True, slots=True)
class ObjectReply:
    """Origin -> origin: what was asked in `request` is committed, or refused as a whole: `error` says why."""

    session: int
    request: int
    error: str


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
    payload: bytes = field(metadata=FRAME)
