"""Clients of an edge in this process that authenticates them, each by another way in: what they want, and what they are told."""

import itertools
from collections.abc import Callable
from typing import Any

from headwater_bus import traffic
from headwater_edge.auth import Authentication
from headwater_edge.edge import Edge
from headwater_edge.gate import Gate
from headwater_edge.routing import Router
from headwater_rtmp.command import decode_command
from headwater_rtmp.message import Message

from support.auth_table import STREAM, Case
from support.edge import FakeLink, Peer, make_edge, say
from support.tunnels import TunnelEdge, TunnelPeer

ADDRESS = "203.0.113.5"
PAGE_SECRET = "page-secret"
"""Which each of these clients shows besides its credentials."""
_stores = itertools.count()
_CODES = {
    "connect": "NetConnection.Connect.Rejected",
    "publish": "NetStream.Publish.Denied",
    "play": "NetStream.Play.Failed",
}
Told = tuple[str, str]
"""At what a client was denied, and why; empty where it was not."""


def _ask_first(edge: Edge, authentication: Authentication | None) -> None:
    gate = None if authentication is None else Gate(authentication)
    edge.router = Router(edge.cluster, edge.counters, gate)


def _refusals(client: Any) -> dict[str, str]:
    infos = [command.args[0] for command in client.commands() if command.args]
    return {info["code"]: info["description"] for info in infos if isinstance(info, dict) and "code" in info}


def _outcome(
    edge: Edge, client: Any, link: FakeLink, action: str, connect: Callable[[], None], ask: Callable[[], None]
) -> Told:
    """`connect` and `ask` do that; `client` has what comes back."""

    def denied(what: str) -> bool:
        # As the edge's job does it.
        edge.flush_clients()
        return _CODES[what] in _refusals(client)

    def forwarded() -> bool:
        sent = [Message(one.type_id, 0, 0, one.payload) for one in link.of(traffic.FromClient)]
        return any(decode_command(message).name == action for message in sent)

    connect()
    client.until(lambda: denied("connect") or link.data.attachments, "an answer to connect")
    if denied("connect"):
        return "connect", _refusals(client)[_CODES["connect"]]
    ask()
    client.until(lambda: denied(action) or forwarded(), f"an answer to {action}")
    return (action, _refusals(client)[_CODES[action]]) if denied(action) else ("", "")


def by_rtmp(authentication: Authentication | None, case: Case, queries: tuple[str, str]) -> Told:
    """Over a connection of its own."""
    edge, _, link = make_edge()
    _ask_first(edge, authentication)
    peer = Peer(edge, ADDRESS)

    def connect() -> None:
        peer.connect(_with("live", queries[0]), pageUrl=f"http://page/?id={PAGE_SECRET}")

    def ask() -> None:
        for session in list(link.data.attachments):
            say(edge, link, traffic.Attached(session, 0, False))
        peer.command(case.action, None, _with(STREAM, queries[1]), "live")

    return _outcome(edge, peer, link, case.action, connect, ask)


def by_rtmpt(authentication: Authentication | None, case: Case, queries: tuple[str, str]) -> Told:
    """In requests."""
    tunnel_edge = TunnelEdge("edge-1", f"auth-{next(_stores)}")
    _ask_first(tunnel_edge.edge, authentication)
    peer = TunnelPeer(tunnel_edge)

    def connect() -> None:
        peer.connect(_with("live", queries[0]), pageUrl=f"http://page/?id={PAGE_SECRET}")

    def ask() -> None:
        for session in list(tunnel_edge.link.data.attachments):
            tunnel_edge.say(traffic.Attached(session, 0, False))
        peer.command(case.action, None, _with(STREAM, queries[1]), "live")

    return _outcome(tunnel_edge.edge, peer, tunnel_edge.link, case.action, connect, ask)


def _with(name: str, query: str) -> str:
    return f"{name}?{query}" if query else name
