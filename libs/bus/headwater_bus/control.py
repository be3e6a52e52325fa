"""What nodes ask the registry and the balancer, and what anybody may ask a node.

Each message is a request with one answer, except Changed, which the registry sends unasked. A request that is lost is asked
again; all are idempotent.
"""

from dataclasses import dataclass, field
from typing import Any

MAX_SCOPE_BYTES = 255
"""Of a scope's name in UTF-8: what a client's connect may name."""
MAX_GROUP_BYTES = 1300
"""Of a group's name in UTF-8: a scope, `#so:` or `#stream:`, and a name of up to 256 characters of up to 4 bytes."""
MAX_EPOCH = 2**53 - 1
"""Every store keeps epochs up to this one exactly (Redis' scripts calculate in doubles)."""


@dataclass(frozen=True, slots=True)
class Register:
    """Node -> registry: I am here, reachable at `endpoint` (empty where nobody connects to me). Answered by Registered. A new
    `boot` for a known `node_id` replaces the former self, whose groups are free, unless that lives: then it is Refused with code
    `taken`. `capacity` is relative; `meta` is for
    others to read (addresses, `control` endpoint). Repeating it changes nothing."""

    node_id: str
    role: str
    boot: str
    endpoint: str
    capacity: float
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registered:
    """Registry -> node: the lease runs for `lease_ms` from now; Renew before it ends."""

    lease_ms: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Node -> registry: still here; `load` is what the node reports (`cpu_percent`, `sessions`, `messages_s` ...). Answered
    by Registered, or Refused with code `unknown-node` (then Register)."""

    node_id: str
    boot: str
    load: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leave:
    """Node -> registry: going; everything it owned is free at once. Answered by Done. Without it the lease ends it."""

    node_id: str
    boot: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Anyone -> registry: send me the table and every change after it. Answered by Snapshot; again after a gap."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Registry -> subscriber: everything as of change `seq` of feed `feed` (a new one at each start of the registry). `nodes`
    rows are [node id, role, boot, endpoint, capacity, meta, load], `groups` rows [group, origin, epoch]."""

    feed: str
    seq: int
    nodes: list[list[Any]]
    groups: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Changed:
    """Registry -> subscriber: change `seq` (one more than the last, else Subscribe again). `changes` rows: ["node", row],
    ["node-gone", node id], ["load", node id, load], ["group", group, origin, epoch], ["group-gone", group]."""

    feed: str
    seq: int
    changes: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Grant:
    """Balancer -> registry: give `group` to `origin`. Answered by Assigned: with a new epoch, or, where a live origin has the
    group already, with that assignment; Refused where the origin is not registered."""

    group: str
    origin: str


@dataclass(frozen=True, slots=True)
class AssignRequest:
    """Edge -> balancer: who has `group`? Answered by Assigned, or Refused (`no-origin`)."""

    group: str


@dataclass(frozen=True, slots=True)
class Assigned:
    """Balancer -> edge, registry -> balancer: `origin` has `group` from `epoch` on."""

    group: str
    origin: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Release:
    """Origin -> registry: nobody uses `group` any more, it need not be mine. Answered by Done; an older epoch changes nothing."""

    group: str
    epoch: int


@dataclass(frozen=True, slots=True)
class EpochSeen:
    """Origin -> registry: the journal of `group` was opened at `epoch`, which is above what I was granted: the registry's table
    went back in time, or the store is another one's. Answered by Done: the registry has raised its counter to `epoch` at least
    and, if the asking origin still has the group at an epoch that is not above, granted it a new one, which the feed tells.
    Repeating it changes nothing. Only the origin that has a group may, and whoever asks for one that nobody has."""

    group: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request that has nothing to tell."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a request that was not carried out: a `code` for programs, a `text` for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class HealthRequest:
    """Anyone -> any node: how are you? Answered by Health."""


@dataclass(frozen=True, slots=True)
class Health:
    """Any node -> whoever asked: `state` is for people and tests: node id, role, uptime_s, counters of the service."""

    state: dict[str, Any]


CONTROL: dict[int, type] = {
    100: Register,
    101: Registered,
    102: Renew,
    103: Leave,
    104: Subscribe,
    105: Snapshot,
    106: Changed,
    110: Grant,
    111: AssignRequest,
    112: Assigned,
    113: Release,
    114: EpochSeen,
    120: Done,
    121: Refused,
    122: HealthRequest,
    123: Health,
}
"""Kind numbers on the wire. A number is never used again for another message."""
