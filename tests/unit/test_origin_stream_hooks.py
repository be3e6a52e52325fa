"""The origin: an application's hooks of streams: what they get, refuse and wait for. No sockets."""

from typing import Any

import pytest
from headwater_origin import Application, Client, Reject
from headwater_origin.application import overrides
from support.command_bench import Open, Waiting, streaming
from support.origin_bench import Bench, FakeClient, settle


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "closed": Application, "waiting": Waiting})


@pytest.fixture
def client(bench: Bench) -> FakeClient:
    return bench.joined(bench.edge())


class Deciding(Application):
    log: list[Any] = []  # noqa: RUF012

    def on_publish(self, client: Client, name: str, query: str) -> Reject | None:
        self.log.append(("on_publish", name, query))
        return Reject("no") if query == "no" else None

    def on_play(self, client: Client, name: str, query: str) -> Reject | None:
        self.log.append(("on_play", name, query))
        if query == "no":
            raise Reject("no")
        return None

    def on_unpublish(self, client: Client, name: str) -> None:
        self.log.append(("on_unpublish", name))

    def on_stop_play(self, client: Client, name: str) -> None:
        self.log.append(("on_stop_play", name))

    def on_disconnect(self, client: Client) -> None:
        self.log.append(("on_disconnect",))


def test_hooks_of_streams_get_name_and_query_and_may_refuse() -> None:
    class Fresh(Deciding):
        log: list[Any] = []  # noqa: RUF012

    bench = Bench({"app": Fresh})
    publisher, player = streaming(bench), streaming(bench)
    publisher.command("publish", "a?no", stream_id=1)
    publisher.command("publish", "a?k=1?2", stream_id=1)
    settle()
    player.command("play", "a?no", stream_id=1)
    player.command("play", "a?t", stream_id=1)
    settle()
    assert publisher.codes() == ["NetStream.Publish.Denied", "NetStream.Publish.Start"]
    assert player.codes() == ["NetStream.Play.Failed", "NetStream.Play.Reset", "NetStream.Play.Start"]
    player.command("play", False, stream_id=1)
    settle()
    player.command("play", "a", stream_id=1)
    settle()
    publisher.detach()
    player.detach()
    settle()
    assert Fresh.log == [
        ("on_publish", "a", "no"),
        ("on_publish", "a", "k=1?2"),
        ("on_play", "a", "no"),
        ("on_play", "a", "t"),
        ("on_stop_play", "a"),
        ("on_play", "a", ""),
        ("on_unpublish", "a"),
        ("on_disconnect",),
        ("on_stop_play", "a"),
        ("on_disconnect",),
    ]


def test_a_hook_with_the_wrong_arguments_is_a_failure_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(Application):
        def on_publish(self, client: Client, name: str) -> None:  # type: ignore[override]  # the wrong arguments are what is tested
            raise AssertionError

    bench = Bench({"app": Wrong})
    client = streaming(bench)
    client.command("publish", "a", stream_id=1)
    settle()
    assert client.codes() == ["NetStream.Publish.Denied"]
    assert len(caplog.records) == 1
    assert "on_publish" in str(caplog.records[0].__dict__["fields"])


def test_two_publishers_of_one_name_whose_hooks_wait() -> None:
    from gevent.event import Event

    gate = Event()

    class Slow(Application):
        def on_publish(self, client: Client, name: str, query: str) -> None:
            gate.wait()

    bench = Bench({"app": Slow})
    one, two, gone = streaming(bench), streaming(bench), streaming(bench)
    for client in (one, two, gone):
        client.command("publish", "a", stream_id=1)
    settle()
    gone.detach()
    gate.set()
    settle()
    assert one.codes() == ["NetStream.Publish.Start"]
    assert two.codes() == ["NetStream.Publish.BadName"]
    assert gone.take() == []


def test_overrides_tells_application_code_from_defaults() -> None:
    application = Deciding.__new__(Deciding)
    assert overrides(application, "on_play")
    assert not overrides(application, "on_connect")
