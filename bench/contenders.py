"""Who takes part in the media benchmarks: Headwater with its settings, its peers, and the floor of the machine."""

from collections.abc import Callable, Sequence
from functools import partial

from bench import floor, headwater, nginx, node_media
from bench.errors import BenchError
from bench.floor import Floor
from bench.headwater import Headwater
from bench.nginx import Nginx
from bench.node_media import NodeMediaServer
from bench.server import Server
from bench.stream import StreamShape

Make = Callable[[int | None], Server]

PEERS = ("nginx", "node-media-server", "headwater")
FANOUT_KINDS = ("nginx", "nginx-cork", "node-media-server", "bare-loop", "headwater")
_CHECKS = {
    "nginx": nginx.check_installed,
    "nginx-cork": nginx.check_installed,
    "node-media-server": node_media.check_installed,
    "bare-loop": lambda: None,
    "headwater": headwater.check_installed,
}
_OPTIONAL = "node-media-server"
"""It comes from npm, which not every machine reaches."""


def present(asked: Sequence[str], kinds: Sequence[str]) -> tuple[list[str], list[str]]:
    """(what takes part of `kinds`, remarks for the report): those asked for, or all where none is. What cannot be installed is
    left out where nobody asked for it. Raises BenchError."""
    chosen = [kind for kind in kinds if kind in asked or not asked]
    remarks = []
    for kind in list(chosen):
        try:
            _CHECKS[kind]()
        except BenchError as error:
            if kind != _OPTIONAL or asked:
                raise
            chosen.remove(kind)
            remarks.append(f"DOUBT {node_media.LABEL} did not take part: {error}")
    return chosen, remarks


def make_all(
    kinds: Sequence[str], flush_ms: Sequence[int], shape: StreamShape, cluster: type[Headwater] = Headwater
) -> list[Make]:
    """What makes each server on a core, in the order in which they are measured: peers first, each floor beside the Headwater
    that gathers as long."""
    made: list[Make] = []
    if "nginx" in kinds:
        made.append(Nginx)
    if "nginx-cork" in kinds and max(flush_ms):
        made.append(partial(Nginx, out_cork=max(2, round(max(flush_ms) / 1000 * shape.messages_s))))
    if "node-media-server" in kinds:
        made.append(NodeMediaServer)
    for each_ms in flush_ms:
        if "bare-loop" in kinds:
            made.append(partial(Floor, every_ms=each_ms, shape=shape))
        if "headwater" in kinds:
            made.append(partial(cluster, flush_ms=each_ms))
    return made


def nginx_for(server: str) -> str | None:
    """Whom a server is compared with; nginx itself with nobody."""
    return None if server == nginx.LABEL else nginx.LABEL


def floor_for(server: str) -> str | None:
    """The bare loop that gathers as long as this Headwater does."""
    name, _, setting = server.partition(", ")
    return floor.label(int(setting.removesuffix(" ms"))) if name == headwater.LABEL else None
