"""What a client shows that it is, as a digest: by that an origin knows a publisher again (see `traffic.Attach`)."""

import hashlib
from functools import lru_cache

from headwater_rtmp.command import Command

from headwater_edge.client import Client

_REMEMBERED = 4096
"""Addresses from which clients came last: many come from few."""


def client_proof(client: Client, command: Command) -> bytes:
    """Of what a client shows with its connect: the queries of its address and its arguments, else where it comes from. What its
    credentials say of it takes their place: `identity_proof`."""
    app, tc_url = command.command_object.get("app"), command.command_object.get("tcUrl")
    shown = [text for text in (query_of(app), query_of(tc_url)) if text]
    shown += [text for text in command.args if isinstance(text, str) and text]
    return _digest("shown", *shown) if shown else _address_proof(client.address)


@lru_cache(_REMEMBERED)
def _address_proof(address: str) -> bytes:
    return _digest("address", address)


def identity_proof(identity: str) -> bytes:
    """Of who it is, as its credentials say."""
    return _digest("identity", identity)


def query_of(url: object) -> str:
    """What stands behind the ? of an address; empty where there is none."""
    return url.partition("?")[2] if isinstance(url, str) else ""


def _digest(*parts: str) -> bytes:
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    return hashlib.sha256(b"".join(len(data).to_bytes(4, "big") + data for data in encoded)).digest()
