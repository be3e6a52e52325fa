"""The origin: answers about streams while the journal waits for its store. No sockets."""

from collections.abc import Iterator

import pytest
from headwater_bus.traffic import PlayChanged, PlayStarted, PlayStopped, StreamClosed, ToClient
from headwater_origin import Application, Client
from support.command_bench import started
from support.journal_bench import JournaledBench, TestJournals
from support.origin_bench import FakeClient, FakeLink, plain, settle


class Noting(Application):
    allow_publish = True

    def on_play(self, client: Client, name: str, query: str) -> None:
        if query == "note":
            self.state["plays"] = self.state.get("plays", 0) + 1


@pytest.fixture
def bench() -> Iterator[JournaledBench]:
    bench = JournaledBench(Noting, TestJournals())
    yield bench
    bench.crash()


def member(bench: JournaledBench, link: FakeLink) -> FakeClient:
    client = bench.member(link)
    client.command("createStream", transaction=2)
    client.take()
    return client


def kinds(link: FakeLink) -> list[str]:
    return [plain(told)[0] if isinstance(told, ToClient) else type(told).__name__ for told in link.take()]


def test_an_answer_waits_for_what_its_hook_has_changed_and_for_nothing_else(bench: JournaledBench) -> None:
    publisher, one, other = (member(bench, bench.edge()) for _ in range(3))
    publisher.command("publish", "a", stream_id=1)
    assert isinstance(bench.journals, TestJournals)
    bench.journals.hold()
    one.command("play", "a?note", stream_id=1)
    other.command("play", "a", stream_id=1)
    settle()
    assert one.take() == []
    # Media and what depends on nothing go on.
    *told, began = other.take()
    assert told == started()
    assert isinstance(began, PlayStarted)
    other.command("pause", True, stream_id=1)
    other.command("closeStream", stream_id=1)
    settle()
    assert [type(told) for told in other.link.take(PlayChanged, PlayStopped, StreamClosed)] == [
        PlayChanged,
        PlayStopped,
        StreamClosed,
    ]
    one.command("pause", True, stream_id=1)
    one.command("closeStream", stream_id=1)
    settle()
    assert kinds(one.link) == ["StreamOpened"]
    bench.journals.go()
    bench.committed()
    assert kinds(one.link) == [
        "StreamBegin",
        "onStatus",
        "onStatus",
        "data",
        "PlayStarted",
        "PlayChanged",
        "onStatus",
        "PlayStopped",
        "StreamClosed",
    ]
