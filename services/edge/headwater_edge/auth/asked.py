"""What is asked about clients, and what is said."""

from dataclasses import dataclass, field

ACTIONS = ("connect", "publish", "play")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants to do. What may hold a secret is not in its `repr`."""

    action: str
    """One of ACTIONS."""
    address: str
    """Where the client is, without a port."""
    app: str
    """Application and instance (`chat/lobby`); without the instance, where it is the default one."""
    stream: str
    """The name before its query; empty for connect."""
    query: str = field(repr=False)
    """What stands behind the stream's name, for connect behind the address."""
    connect_query: str = field(repr=False)
    """What stands behind the address, in any case."""
    tc_url: str = field(repr=False)
    page_url: str = field(repr=False)
    swf_url: str = field(repr=False)
    flash_ver: str
    session_id: str
    """In the whole cluster."""
    number: int
    """Of the session on this edge."""
    transport: str
    """rtmp, rtmps, rtmpt or rtmpts."""
    type: str = ""
    """How it is to be published: live, record or append."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it may. `reason` why not, for the client and the log: it holds nothing secret. `identity`: who it is, where its
    token says so."""

    allowed: bool
    reason: str = ""
    identity: str = ""
