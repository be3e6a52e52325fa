"""What a session that is connected and does nothing more holds: little, whatever it held while it connected. Bytes as Python
counts them; the benchmark of idle connections counts the system's."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from headwater_edge import edge as edge_module
from headwater_origin import Application, Client, remote
from support.edge import attached, end_all, make_edge
from support.journal_bench import JournaledBench, answer, memory_journals
from support.waiting import eventually

_SESSIONS = 300
ABOUT: dict[str, Any] = {
    "tcUrl": "rtmp://media.example.org/app/room",
    "swfUrl": "https://www.example.org/players/player.swf",
    "pageUrl": "https://www.example.org/channels/1",
    "flashVer": "WIN 32,0,0,465",
    "capabilities": 239.0,
    "audioCodecs": 3575.0,
    "videoCodecs": 252.0,
}


def _bytes_each(add: Callable[[int], None], *packages: str) -> float:
    """What lines of these packages have allocated for each of some sessions and still hold."""
    filters = [tracemalloc.Filter(True, f"*{package}*") for package in packages]
    tracemalloc.start()
    try:
        add(_SESSIONS)
        traces = tracemalloc.take_snapshot().filter_traces(filters).traces
        return sum(trace.size for trace in traces) / _SESSIONS
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("own_url", "most"), [(False, 1150), (True, 1450)])
def test_an_idle_member_takes_little_memory_at_the_origin(own_url: bool, most: int) -> None:
    bench = JournaledBench(Application, memory_journals())
    link = bench.edge()

    def add(count: int) -> None:
        sent = link.position
        for number in range(count):
            query = f"?token={number:020}" if own_url else ""
            bench.client(link, properties={**ABOUT, "tcUrl": f"{ABOUT['tcUrl']}{query}"})
        eventually(lambda: link.position - sent >= 2 * count, 10, "answered")
        bench.committed()
        link.take()

    add(20)
    each = _bytes_each(add, "headwater_origin", "headwater_rtmp", "headwater_amf", "headwater_bus")
    bench.crash()
    assert len(link.data.sessions) == 20 + _SESSIONS
    assert each < most, f"{each:.0f} bytes"


@pytest.fixture
def edges() -> Iterator[None]:
    """Nothing of them is left."""
    yield
    end_all()


@pytest.mark.usefixtures("edges")
def test_an_idle_client_takes_little_memory_at_the_edge() -> None:
    edge, _, link = make_edge()

    def add(count: int) -> None:
        for _ in range(count):
            attached(edge, link, **ABOUT)
        link.sent.clear()

    add(20)
    # Without headwater_rtmp's part, whose other ends are here too.
    each = _bytes_each(add, "headwater_edge")
    assert each < 1300, f"{each:.0f} bytes"


class Reading(Application):
    """Looks at what a client says of itself, when it connects and later."""

    seen: list[Any]

    def on_connect(self, client: Client, *args: Any) -> None:
        self.seen.append((client, dict(client.connect_properties)))

    @remote
    def look(self, client: Client) -> None:
        self.seen.append((client, dict(client.connect_properties)))


def test_what_a_client_says_of_itself_is_there_after_it_was_accepted() -> None:
    Reading.seen = []
    bench = JournaledBench(Reading, memory_journals())
    client = bench.member(bench.edge(), properties=ABOUT)
    assert client.session.properties is None
    client.command("look", transaction=2)
    assert answer(client)[0] == "_result"
    bench.crash()
    (first, said), (later, again) = Reading.seen
    assert first is later
    assert said == again == {**ABOUT, "app": "app/room", "objectEncoding": 0.0}


@pytest.mark.usefixtures("edges")
def test_silent_clients_are_pinged_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    edge, _, link = make_edge()
    peers = [attached(edge, link) for _ in range(6)]
    monkeypatch.setattr(edge_module, "SLICE_S", 0.0)
    monkeypatch.setattr(edge_module, "_UNPAUSED", 2)
    queued: list[int] = []
    monkeypatch.setattr(edge_module, "pause", lambda: queued.append(len(edge.dirty)))
    edge.check_deadlines(time.monotonic() + edge.config.ping_s + 1)
    # Nothing waits where others have their turn.
    assert queued == [0, 0, 0]
    edge.flush_clients()
    for peer in peers:
        assert peer.client is not None
        assert peer.client.pinged_at
