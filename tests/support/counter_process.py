"""A process that keeps a counter, for tests that kill it: the origin's own group and journal, without sockets to edges.

`-m support.counter_process STORE` reads lines from its standard input: a path of a Unix socket, an epoch, whether the session is
resumed, and the last number that was acknowledged to it. For each it forks a process that connects there and serves one session
of the group `app/counter` at that epoch; it says its process id on its standard output.

Over the socket come lines, each with the number of an increment (a message of the session), or `? number` to read. Told are:
`A number` when it is attached, the number of each increment that is acknowledged, `= state object` for what was read.
"""

import gc
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import gevent
from gevent import socket as green
from headwater_bus import traffic
from headwater_bus.control import Done
from headwater_bus.view import ClusterView
from headwater_origin import Application, Client, remote
from headwater_origin.config import OriginConfig
from headwater_origin.origin import Origin
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.message import Message
from headwater_store import open_journals

GROUP = "app/counter"


class Counter(Application):
    """The same number in two places, which one increment changes together."""

    def on_start(self) -> None:
        self.board = self.shared_object("counter", persistent=True)

    @remote
    def inc(self, client: Client) -> float:
        """One more."""
        self.state["n"] = self.state.get("n", 0.0) + 1
        # Another's turn, in the middle.
        gevent.sleep(0)
        self.board["n"] = self.board.get("n", 0.0) + 1
        return float(self.board["n"])

    @remote
    def read(self, client: Client) -> list[float]:
        """Both."""
        return [self.state.get("n", 0.0), self.board.get("n", 0.0)]


class SocketLink:
    """The one edge: what it is told becomes lines."""

    peer = boot = "driver"
    data: Any = None
    queued_bytes = acknowledged = 0
    """The driver says what it has heard when it comes back, not before."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self.position = 0

    def mark(self) -> None:
        """There are no batches."""

    def end_batches_with(self, trailer: Any) -> None:
        """There are no batches."""

    def send(self, envelope: Any) -> None:
        """Say what the driver wants to know."""
        self.position += 1
        if isinstance(envelope, traffic.Attached):
            self._wire.sendall(f"A {envelope.number}\n".encode())
        elif isinstance(envelope, traffic.ToClient) and envelope.type_id == 20:
            command = decode_command(Message(envelope.type_id, 0, 0, envelope.payload))
            if command.name != "_result":
                self._wire.sendall(f"! {command.name} {command.args}\n".encode())
            elif isinstance(command.args[0], list):
                self._wire.sendall(f"= {command.args[0][0]:.0f} {command.args[0][1]:.0f}\n".encode())
            elif command.transaction_id > 1:
                self._wire.sendall(f"{command.transaction_id - 1:.0f}\n".encode())


def serve(store: str, path: str, epoch: int, resumed: bool, applied: int) -> None:
    """One life."""
    wire = green.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    wire.connect(path)
    view = ClusterView()
    view._apply([["group", GROUP, "me", epoch]])
    node: Any = SimpleNamespace(node_id="me", view=view, request_registry=lambda request: Done())
    # Snapshots often, so that some are cut short as well.
    config = OriginConfig(snapshot_entries=20, messages_per_s=1_000_000, messages_burst=1_000_000)
    origin = Origin(node, config, {"app": Counter}, open_journals(store))
    gevent.spawn(origin.committer.run)
    link: Any = SocketLink(wire)
    origin.link_up(link)
    connect = encode_command("connect", 1, {"app": GROUP})
    origin.batch(
        link,
        [
            traffic.Attach(
                1,
                "session",
                GROUP,
                epoch,
                "192.0.2.1",
                0,
                resumed,
                connect.type_id,
                applied,
                0,
                b"",
                [],
                [],
                [],
                payload=connect.payload,
            )
        ],
    )
    with wire.makefile("r") as lines:
        for line in lines:
            method, number = ("read", int(line[2:])) if line[0] == "?" else ("inc", int(line))
            message = encode_command(method, number + 1, None)
            origin.batch(link, [traffic.FromClient(1, number, message.type_id, 0, 0, message.payload)])


def main() -> None:
    """Fork one process for each line."""
    store = sys.argv[1]
    open_journals(store).close()  # What it imports is imported once.
    gc.freeze()
    for line in sys.stdin:
        path, epoch, resumed, applied = line.split()
        child = os.fork()
        if child == 0:
            serve(store, path, int(epoch), resumed == "1", int(applied))
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
