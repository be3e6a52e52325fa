"""Which ways lead to a server: tried one after the other, in the order in which Flash Player tried them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headwater_rtmp.url import SCHEMES, RtmpUrl

from headwater_client.errors import ConnectError
from headwater_client.net_connection import NetConnection
from headwater_client.opening import target_of

PLAIN = (("rtmp", 1935), ("rtmp", 443), ("rtmp", 80), ("rtmpt", 80))
"""Flash Player's, for an address without a port: the usual port, then those that most networks let through, then HTTP."""
SECURE = (("rtmps", 443), ("rtmps", 1935), ("rtmpts", 443))

Way = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Tried:
    """One way. `works`: RTMP is spoken there, even if the application has refused us, as `said` tells then."""

    url: str
    scheme: str
    port: int
    works: bool
    accepted: bool
    said: str
    took_s: float


def parse_way(text: str) -> Way:
    """`SCHEME:PORT`, `rtmpt:8080` for example. Raises ValueError."""
    scheme, _, port = text.partition(":")
    if scheme not in SCHEMES or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r}: expected SCHEME:PORT, of {', '.join(SCHEMES)}")
    return scheme, int(port)


def ways_to(target: RtmpUrl, ways: Sequence[Way] = ()) -> Sequence[Way]:
    """What to try: the given ones, or Flash Player's; those within TLS for an address that asks for it. An address with a port of
    its own is tried there, and nowhere else."""
    if ways:
        return ways
    if target.port != target.usual_port:
        return [
            (scheme, target.port) for scheme in (("rtmps", "rtmpts") if target.secure else ("rtmp", "rtmpt"))
        ]
    return SECURE if target.secure else PLAIN


def probe(
    url: str, ways: Sequence[Way] = (), *connect_args: Any, timeout_s: float = 5.0, **options: Any
) -> Iterator[Tried]:
    """Connect to the application of `url` by each way, see `ways_to`, for `timeout_s` each. `options` are those of NetConnection.
    Raises ConnectError for an address that is none."""
    target = target_of("probe", url)
    for scheme, port in ways_to(target, ways):
        address = target.by(scheme, port)
        began = time.monotonic()
        works = accepted = False
        said = ""
        try:
            with NetConnection(address, *connect_args, timeout_s=timeout_s, **options) as connection:
                took_s = time.monotonic() - began
                works = accepted = True
                said = str(connection.connect_info.get("description", ""))
        except ConnectError as error:
            took_s = time.monotonic() - began
            works = bool(error.code)
            said = str(error).partition(f"connect to {address}: ")[2] or str(error)
        yield Tried(address, scheme, port, works, accepted, said, took_s)


def first_way(url: str, ways: Sequence[Way] = (), *connect_args: Any, **options: Any) -> str:
    """`url` by the first way on which the application accepts us. Raises ConnectError with what each way has said."""
    tried: list[Tried] = []
    for one in probe(url, ways, *connect_args, **options):
        if one.accepted:
            return one.url
        tried.append(one)
    heard = "; ".join(f"{one.scheme}:{one.port}: {one.said}" for one in tried)
    raise ConnectError(f"probe of {url}", text=f"no way leads there: {heard}")
