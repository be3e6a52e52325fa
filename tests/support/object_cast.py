"""Clients that use SharedObjects of a group with a journal and speak to each other, on one origin after the other."""

from typing import Any

from headwater_origin import Client, remote
from headwater_rtmp.command import encode_command

from support.journal_bench import JournaledBench, memory_journals
from support.object_bench import USE, Open
from support.origin_bench import ME, settle
from support.resuming_edges import GROUP, ResumingEdge
from support.waiting import eventually


class Speaking(Open):
    """Clients speak to all, or to each of the others; they hear it as `word`."""

    @remote
    def tell(self, client: Client, word: float) -> None:
        self.broadcast("word", word)

    @remote
    def whisper(self, client: Client, word: float) -> None:
        for other in self.clients:
            if other is not client:
                other.notify("word", word)


class Cast:
    """A group with a journal, on one origin after the other, and two edges with two users of `board` (and `others`) each."""

    def __init__(self, *others: str, **config: Any) -> None:
        self.config = config
        self.bench = JournaledBench(Speaking, memory_journals(), **config)
        self.place()
        self.edges = [ResumingEdge("edge-1"), ResumingEdge("edge-2")]
        for edge in self.edges:
            edge.connect(self.bench.origin, self.bench.epoch)
        self.users = [self.edges[number // 2].join(number + 1) for number in range(4)]
        self.quiet()
        for user in self.users:
            for name in ("board", *others):
                user.ask(name, (USE,))
        self.quiet()

    def place(self) -> None:
        self.bench.committing.kill()
        self.bench.change("group", GROUP, ME, self.bench.epoch)

    @property
    def group(self) -> Any:
        return self.bench.origin.groups[GROUP]

    @property
    def board(self) -> Any:
        return self.group.objects.get("board", False)

    def says(self, at: int, method: str, word: float) -> None:
        """A user calls `tell` or `whisper`."""
        self.users[at].message(encode_command(method, 0, None, word))
        settle()

    def commit(self) -> None:
        self.bench.origin.committer._commit()
        settle()

    def arrive(self, edge: ResumingEdge) -> None:
        """The group has started, and what it says arrives."""
        settle()
        eventually(self.group.started.is_set, within_s=10)
        settle()
        self.commit()
        edge.deliver()

    def quiet(self) -> None:
        for _ in range(3):
            for edge in self.edges:
                if edge.link is not None:
                    self.arrive(edge)
                    edge.link.ack()

    def crash(self) -> None:
        self.bench.crash()
        for edge in self.edges:
            edge.forget_link()
        self.bench = self.bench.successor(**self.config)
        self.place()

    def resume(self, *edges: ResumingEdge) -> None:
        for edge in edges or self.edges:
            edge.connect(self.bench.origin, self.bench.epoch)
            self.arrive(edge)
        self.quiet()
