"""An origin with a journal that a test can hold up, break and replace: see origin_bench."""

import time
from collections.abc import Sequence
from typing import Any

import gevent
from gevent import monkey
from headwater_origin import Application
from headwater_store import Append, Fenced, Journals, Loaded, StoreAway, StoreError, WentBack, open_journals

from support.origin_bench import Bench, FakeClient, FakeLink, plain
from support.waiting import TIME_FACTOR, eventually

# Whatever a test has patched: these are for the committing threads of several origins.
_ThreadEvent = monkey.get_original("threading", "Event")
_thread_lock = monkey.get_original("_thread", "allocate_lock")


def memory_journals() -> Journals:
    """Journals in memory for several origins of one test, whose threads differ."""
    made = open_journals("memory:")
    made._place.lock = _thread_lock()  # type: ignore[attr-defined]  # of MemoryJournals
    return made


class TestJournals:
    """Journals in memory that do as a test says. Its calls come from the committing thread."""

    __test__ = False

    def __init__(self, inner: Journals | None = None) -> None:
        self.inner = inner or memory_journals()
        self.away = False
        self._open = _ThreadEvent()
        self._open.set()
        self.outcome: Fenced | WentBack | None = None
        """Instead of doing what is asked, once."""
        self.broken: set[str] = set()
        """Groups whose journals are damaged."""
        self.lost_answers = 0
        """So many appends are done, and then the store is away."""
        self.batches: list[list[tuple[str, int, int]]] = []
        """Group, number of the entry and size of each append that was done."""
        self.calls: list[str] = []
        self.held = False
        """Whether a call waits for `go`."""

    def hold(self) -> None:
        """Calls wait until `go`."""
        self.held = False
        self._open.clear()

    def go(self) -> None:
        """Calls go on."""
        self._open.set()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.held = not self._open.is_set()
        assert self._open.wait(30 * TIME_FACTOR)
        if self.away:
            raise StoreAway("the store is away")

    def open(self, group: str, epoch: int) -> Loaded:
        self._called("open")
        return self.inner.open(group, epoch)

    def open_many(self, wanted: Sequence[tuple[str, int]]) -> list[Loaded | StoreError]:
        self._called("open")
        return self.inner.open_many(wanted)

    def append(self, batch: Sequence[Append]) -> list[Fenced | WentBack | None]:
        self._called("append")
        if self.outcome is not None:
            outcome, self.outcome = self.outcome, None
            return [outcome for _ in batch]
        damaged = self.broken.intersection(asked.group for asked in batch)
        if damaged:
            raise StoreError(f"the journal of {damaged} is damaged")
        outcomes = self.inner.append(batch)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreAway("the answer was lost")
        self.batches.append([(asked.group, asked.after + 1, len(asked.entries[0])) for asked in batch])
        return outcomes

    def snapshot(self, group: str, epoch: int, number: int, data: bytes) -> None:
        self._called("snapshot")
        self.inner.snapshot(group, epoch, number, data)

    def drop(self, group: str, epoch: int) -> None:
        self._called("drop")
        self.inner.drop(group, epoch)

    def groups(self) -> list[str]:
        return self.inner.groups()

    def close(self) -> None:
        self.inner.close()


class JournaledBench(Bench):
    """`crash` ends it as kill -9 would; what comes next is another one on the same journals, at the next epoch."""

    def __init__(
        self, application: type[Application], journals: Journals, epoch: int = 1, **config: Any
    ) -> None:
        super().__init__({"app": application}, journals=journals, epoch=epoch, **config)
        self.journals = journals

    def crash(self) -> None:
        """Nothing is committed any more, and nothing runs on."""
        self.committing.kill()
        for group in list(self.origin.groups.values()):
            group.outputs.give_up()
            group.app.tasks.end()
            group.durable.jobs.end()
            gevent.killall(list(group._workers))

    def successor(self, application: type[Application] | None = None, **config: Any) -> "JournaledBench":
        """The next origin of the group."""
        made = application or self.origin.applications["app"]
        return JournaledBench(made, self.journals, self.epoch + 1, **config)

    def member(self, link: FakeLink, **how: Any) -> FakeClient:
        """A client that was accepted; what it was told of that is taken away."""
        client = self.client(link, epoch=self.epoch, **how)
        eventually(lambda: client.attached in client.link.log, within_s=10)
        eventually(lambda: not client.session.waiting, within_s=10)
        client.take()
        return client

    def committed(self) -> None:
        """Wait until nothing waits."""
        eventually(
            lambda: all(group.outputs.tail is None for group in self.origin.groups.values()), within_s=10
        )


def answer(client: FakeClient, within_s: float = 10.0) -> Any:
    """The next that a client is told."""
    told: list[Any] = []

    def heard() -> bool:
        mine = [one for one in client.link.log if getattr(one, "session", None) == client.number]
        if mine:
            told.append(mine[0])
            client.link.log.remove(mine[0])
        return bool(told)

    eventually(heard, within_s)
    return plain(told[0])


def quiet(client: FakeClient, for_s: float = 0.05) -> None:
    """A client is told nothing meanwhile."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        gevent.sleep(0.005)
        assert not [one for one in client.link.log if getattr(one, "session", None) == client.number]
