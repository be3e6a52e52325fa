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
    `boot` for a known `node_id` replaces the former self, whose groups are orphans then, unless that lives: then it is Refused
    with code `taken`. `capacity` is relative; `meta` is for
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
    """Node -> registry: going; every group that it owned is an orphan at once. Answered by Done. Without it the lease ends it."""

    node_id: str
    boot: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """Node -> registry: my connection to this self of a node is gone. Answered by Done at once; the registry looks whether
    anybody listens there still, and a node that refuses connections is gone without waiting for its lease."""

    node_id: str
    boot: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Anyone -> registry: send me the table and every change after it. Answered by Snapshot; again after a gap."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Registry -> subscriber: everything as of change `seq` of feed `feed` (a new one each time that a registry begins to lead).
    `nodes` rows are [node id, role, boot, endpoint, capacity, meta, load], `groups` rows [group, origin, epoch]; an orphan, whose
    origin is gone, has an empty one. `settings` are the balancers' (see PutSettings)."""

    feed: str
    seq: int
    nodes: list[list[Any]]
    groups: list[list[Any]]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changed:
    """Registry -> subscriber: change `seq` (one more than the last, else Subscribe again). `changes` rows: ["node", row],
    ["node-gone", node id], ["load", node id, load], ["group", group, origin, epoch] (origin empty: an orphan, which its last
    origin had at that epoch), ["group-gone", group], ["settings", settings]. A node's row comes before those of its orphans."""

    feed: str
    seq: int
    changes: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Grants:
    """Balancer -> registry: give each group to the origin named with it. `grants` rows [group, origin]. Answered by Granted. All
    of one request are committed together."""

    grants: list[list[Any]]


@dataclass(frozen=True, slots=True)
class Granted:
    """Registry -> balancer: `rows` [group, origin, epoch, code], one for each of the Grants, in order: with a new epoch, or,
    where a live origin has the group already, with that assignment; otherwise the origin is empty and `code` says why:
    unknown-node, not-an-origin, too-many, bad-name."""

    rows: list[list[Any]]


@dataclass(frozen=True, slots=True)
class HandOver:
    """Origin -> registry: I have committed and closed `group`, which I have at `epoch`; `origin` shall have it. Answered by
    Assigned (with a new epoch; also where that was done already), or Refused: `not-yours`, `unknown-node`, `not-an-origin`.
    `reason` is for the history."""

    group: str
    epoch: int
    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class MoveGroup:
    """Balancer -> origin, at its control endpoint: hand over `group`, which you have at `epoch`, to `origin`. Answered by
    Assigned when it is done, or Refused: `not-mine`, `busy` (it moves already), or what the registry has said. `reason` is for
    the history. Whoever loses the answer reads in the feed what became of it."""

    group: str
    epoch: int
    origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class GroupLoadsRequest:
    """Balancer -> origin, at its control endpoint: what do your groups cost? Answered by GroupLoads."""


@dataclass(frozen=True, slots=True)
class GroupLoads:
    """Origin -> balancer: `rows` [group, epoch, members, messages, payload bytes]; messages and bytes are totals since the group
    began here, in and out, so two answers give the rates."""

    rows: list[list[Any]]


@dataclass(frozen=True, slots=True)
class PutSettings:
    """Balancer -> registry: keep `settings` in place of those whose `version` was `seen` (0: none yet). Answered by Done, or
    Refused (`changed`: another one has written meanwhile). Everybody hears of them by the feed. The registry adds `version`."""

    seen: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Operator -> registry: the last `count` events. Answered by History."""

    count: int


@dataclass(frozen=True, slots=True)
class History:
    """Registry -> operator: `rows` [s since 1970, event, subject, from, to, epoch, reason], oldest first. Events are those of
    nodes (node-joined, node-left, node-died), groups (moved: handed over, taken-over: orphans were granted; the subject names the
    first of those that went together) and settings (settings: which of them changed)."""

    rows: list[list[Any]]


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
    """The answer to a request that was not carried out: a `code` for programs, a `text` for people. A registry that does not lead
    answers everything with code `standby`: ask another one."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class HealthRequest:
    """Anyone -> any node: how are you? Answered by Health."""


@dataclass(frozen=True, slots=True)
class Health:
    """Any node -> whoever asked: `state` is for people and tests: node id, role, uptime_s, counters of the service."""

    state: dict[str, Any]


# Operators


@dataclass(frozen=True, slots=True)
class Order:
    """Operator -> leading balancer, at its endpoint: do `order` with its `values`: rebalance [], move [group, origin], pin
    [glob, origin], unpin [glob], stick [glob], unstick [glob], apart [glob, glob], unapart [glob, glob], drain [origin],
    undrain [origin], policy [name], pause [] or resume []. With `dry_run` only say what would happen. `moves` rows [group, from,
    to]: of a rebalance, do these (what a dry run has said) and no others. Answered by Ordered when it is kept (moves go on
    beside it), or Refused with why it makes no sense. Asked again it is refused, because it is done already."""

    order: str
    values: list[str] = field(default_factory=list)
    dry_run: bool = False
    moves: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Balancer -> operator: `moves` rows [group, from, to, load, members, reason] that follow from it; `spread` rows [origin,
    capacity, groups, load, fair share, groups and load after the moves], loads in percent of one core; `notes` are for people;
    `job` is for ProgressRequest, empty where nothing is to be waited for."""

    moves: list[list[Any]]
    spread: list[list[Any]]
    notes: list[str]
    job: str = ""


@dataclass(frozen=True, slots=True)
class ProgressRequest:
    """Operator -> the balancer that answered Ordered: how far is `job`? Answered by Progress, or Refused (`unknown-job`: another
    balancer leads now, or it is long ago)."""

    job: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Balancer -> operator: `rows` [group, from, to, state, text]; state is waiting, moving, moved, failed or dropped, and `text`
    says why."""

    rows: list[list[Any]]


@dataclass(frozen=True, slots=True)
class BalanceRequest:
    """Anyone -> balancer: how are things? Answered by BalanceState."""


@dataclass(frozen=True, slots=True)
class BalanceState:
    """Balancer -> whoever asked: `state` is for people and tests: leader, policy, rules, loads and shares of origins, moves under
    way, notes. Only the leading one knows loads."""

    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DrainEdge:
    """Operator -> edge: take no more clients, and let go of all within `deadline_s` seconds; those that can go on elsewhere
    unnoticed do so at once. `stop`: end then. Sent again it sets another deadline; a deadline below 0 changes nothing and only
    asks. Answered by EdgeDrain."""

    deadline_s: float
    stop: bool = False


@dataclass(frozen=True, slots=True)
class EdgeDrain:
    """Edge -> operator: how many `clients` are left of those that were there, and `seconds` until the rest is closed (below 0:
    it is not being drained)."""

    clients: int
    total: int
    seconds: float


CONTROL: dict[int, type] = {
    100: Register,
    101: Registered,
    102: Renew,
    103: Leave,
    104: Subscribe,
    105: Snapshot,
    106: Changed,
    107: Suspect,
    111: AssignRequest,
    112: Assigned,
    113: Release,
    114: EpochSeen,
    115: Grants,
    116: Granted,
    117: HandOver,
    118: MoveGroup,
    119: GroupLoadsRequest,
    120: Done,
    121: Refused,
    122: HealthRequest,
    123: Health,
    124: GroupLoads,
    125: PutSettings,
    126: HistoryRequest,
    127: History,
    130: Order,
    131: Ordered,
    132: ProgressRequest,
    133: Progress,
    134: BalanceRequest,
    135: BalanceState,
    136: DrainEdge,
    137: EdgeDrain,
}
"""Kind numbers on the wire. A number is never used again for another message."""
