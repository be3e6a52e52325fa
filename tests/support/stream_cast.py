"""A publisher and players of one stream, each on an edge of its own that keeps what it sent. No sockets."""

from typing import Any

from headwater_bus import traffic
from headwater_origin import Application, Client
from headwater_rtmp.message import Message

from support.fanout_bench import META
from support.journal_bench import JournaledBench, memory_journals
from support.origin_bench import ME, plain, settle
from support.resuming_edges import GROUP
from support.resuming_media import HEADERS, MediaEdge, command, picture
from support.waiting import eventually


class Stage(Application):
    allow_publish = True
    wait_for_publisher = True

    def on_start(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def on_unpublish(self, client: Client, name: str) -> None:
        self.ended.append(("unpublish", name))

    def on_stop_play(self, client: Client, name: str) -> None:
        self.ended.append(("stop_play", name))


class Cast:
    """A publisher on the first of three edges, a player on each of the others."""

    def __init__(
        self, ring_bytes: int = 1 << 20, publishes: bool = True, application: type[Stage] = Stage
    ) -> None:
        self.bench = JournaledBench(application, memory_journals())
        self.edges = [MediaEdge(f"edge-{number}", ring_bytes) for number in range(3)]
        self.now = 0.0
        self.place()
        for edge in self.edges:
            edge.connect(self.bench.origin, self.bench.epoch)
        self.publisher = self.edges[0].join(100)
        self.players = [self.edges[number].join(number) for number in (1, 2)]
        self.quiet()
        for player in self.players:
            command(player, "createStream", stream_id=0)
            command(player, "play", "a")
        command(self.publisher, "createStream", stream_id=0)
        self.quiet()
        if publishes:
            self.publish("a")

    def publish(self, name: str) -> None:
        """With its first pictures."""
        command(self.publisher, "publish", name, "live")
        self.quiet()
        for payload in HEADERS:
            self.send(Message(18 if payload is META else 9, 1, 0, payload))
        self.pictures(0, 3)
        self.quiet()
        self.told()

    def place(self) -> None:
        self.bench.committing.kill()
        self.bench.change("group", GROUP, ME, self.bench.epoch)

    @property
    def group(self) -> Any:
        return self.bench.origin.groups[GROUP]

    def send(self, message: Message) -> None:
        self.now += 0.01
        self.edges[0].publish(self.publisher, message, self.now)

    def pictures(self, first: int, last: int) -> None:
        for serial in range(first, last):
            self.send(picture(serial, serial % 10 == 0))

    def quiet(self) -> None:
        for _ in range(4):
            settle()
            eventually(self.group.started.is_set, within_s=10)
            settle()
            self.bench.origin.committer._commit()
            settle()
            for edge in self.edges:
                edge.deliver()
                if edge.link is not None:
                    edge.link.ack()

    def crash(self) -> None:
        self.bench.crash()
        for edge in self.edges:
            edge.forget_link()
        self.bench = self.bench.successor()
        self.place()

    def resume(self, *numbers: int) -> None:
        for number in numbers:
            self.edges[number].connect(self.bench.origin, self.bench.epoch)
            self.quiet()

    def grace_over(self) -> None:
        self.group.tick(self.group.clock() + self.group.config.resume_grace_s + 1)
        self.quiet()

    def told(self) -> dict[int, list[str]]:
        """The codes of statuses that clients have read since the last time."""
        codes = {}
        for client in (self.publisher, *self.players):
            read, client.read = client.read, []
            codes[client.number] = [code for code in map(code_of, read) if code]
        return codes

    def shown(self, edge: int) -> list[list[int]]:
        """The pictures that an edge got, for each time that it began."""
        parts = [[one[1] for one in part if one not in HEADERS] for part in self.edges[edge].got]
        return [part for part in parts if part]


def code_of(message: Message) -> str | None:
    told = plain(traffic.ToClient(0, message.type_id, message.stream_id, 0, message.payload))
    return told[2] if told[0] == "onStatus" else None
