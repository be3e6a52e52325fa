"""`headwater-registry wait`: how many nodes of each role are wanted, what is missing, and what to try when all are there."""

from collections import Counter
from collections.abc import Iterable

from headwater_bus.ports import DEFAULT_BASE_PORT
from headwater_bus.security import ROLES
from headwater_bus.view import NodeInfo

_RTMP_PORT = "1935"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}


def parse_wanted(text: str) -> dict[str, int]:
    """`registry=1,edge=2` as counts by role. Raises ValueError, whose text says what was expected."""
    wanted: dict[str, int] = {}
    for part in text.split(","):
        role, equals, number = part.strip().partition("=")
        if role not in ROLES or role == "operator" or not equals or not number.isdecimal():
            services = ", ".join(known for known in ROLES if known != "operator")
            raise ValueError(f"{part!r}: expected ROLE=NUMBER, such as edge=2; roles are {services}")
        wanted[role] = int(number)
    return wanted


def missing(wanted: dict[str, int], nodes: Iterable[NodeInfo]) -> str:
    """What is not there yet, `edge 1 of 2, origin 0 of 2`; empty when nothing is. A node that the registry has not heard of since
    it started does not count: it may have stopped with it."""
    here = Counter(node.role for node in nodes if not node.meta.get("restored"))
    return ", ".join(
        f"{role} {here[role]} of {count}" for role, count in wanted.items() if here[role] < count
    )


def rtmp_url(address: str) -> str:
    """The URL of an RTMP address `host:port`, as a client on this machine writes it."""
    host, _, port = address.rpartition(":")
    host = _ANY.get(host, host)
    return f"rtmp://{host}" if port == _RTMP_PORT else f"rtmp://{host}:{port}"


def ready_lines(nodes: Iterable[NodeInfo], base_port: int) -> list[str]:
    """The ready line, which names every address, then what to try."""
    edges = sorted(
        (
            node
            for node in nodes
            if node.role == "edge" and "rtmp" in node.meta and not node.meta.get("restored")
        ),
        key=lambda n: _by_number(n.node_id),
    )
    if not edges:
        return ["ready: no edge is here yet, so nothing listens for RTMP"]
    shared = list(
        dict.fromkeys(rtmp_url(str(edge.meta.get("rtmp_shared", edge.meta["rtmp"]))) for edge in edges)
    )
    own = [(rtmp_url(str(edge.meta["rtmp"])), edge.node_id) for edge in edges]
    named = [f"{url} (shared by the edges)" for url in shared] + [f"{url} ({name})" for url, name in own]
    port = "" if base_port == DEFAULT_BASE_PORT else f" --base-port {base_port}"
    return [
        "ready: " + ", ".join(named),
        f"  publish: ffmpeg -re -i FILE.mp4 -c copy -f flv {shared[0]}/live/a",
        f"  play:    ffplay {own[-1][0]}/live/a",
        f"  share:   headwater-client so {shared[0]}/live board --set x=1",
        f"  look:    headwater-registry groups{port}",
    ]


def _by_number(node_id: str) -> tuple[int, str]:
    """edge-2 before edge-10."""
    return len(node_id), node_id
