"""The origin: every command of the list with its exact answers, in order. No sockets."""

from typing import Any

import pytest
from headwater_amf import UNDEFINED
from headwater_bus.traffic import (
    PlayChanged,
    PlayStarted,
    PlayStopped,
    PublishStarted,
    PublishStopped,
)
from headwater_origin import Application
from support.command_bench import Open, Waiting, started, streaming
from support.origin_bench import Bench, FakeClient


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Open, "closed": Application, "waiting": Waiting})


@pytest.fixture
def client(bench: Bench) -> FakeClient:
    return bench.joined(bench.edge())


def test_create_stream_gives_the_lowest_free_id(client: FakeClient) -> None:
    for transaction in (2, 3, 4):
        client.command("createStream", transaction=transaction)
    client.command("deleteStream", 2.0)
    client.command("createStream", transaction=5)
    assert client.take() == [
        ("_result", 2.0, 1.0),
        ("_result", 3.0, 2.0),
        ("_result", 4.0, 3.0),
        ("_result", 5.0, 2.0),
    ]


def test_create_stream_over_the_limit_is_an_error() -> None:
    bench = Bench({"app": Open}, streams_per_session=2)
    client = bench.joined(bench.edge())
    for transaction in (2, 3, 4):
        client.command("createStream", transaction=transaction)
    *_, (name, transaction, info) = client.take()
    assert (name, transaction, info["code"]) == ("_error", 4.0, "NetConnection.Call.Failed")
    assert "2 streams" in info["description"]


@pytest.mark.parametrize("argument", [7.0, "1", None, {}, [], float("nan"), UNDEFINED])
def test_delete_stream_of_none_is_nothing(bench: Bench, argument: Any) -> None:
    client = streaming(bench)
    client.command("deleteStream", argument)
    assert client.take() == []
    client.command("createStream", transaction=3)
    assert client.take() == [("_result", 3.0, 2.0)]


def test_publish_and_delete_stream(bench: Bench) -> None:
    client = streaming(bench)
    client.command("publish", "a", "live", transaction=4, stream_id=1)
    assert client.take() == [
        PublishStarted(1, 1, 1, "a"),
        ("StreamBegin", 1),
        ("onStatus", 1, "NetStream.Publish.Start"),
    ]
    client.command("deleteStream", 1.0)
    assert client.take() == [PublishStopped(1, 1), ("onStatus", 1, "NetStream.Unpublish.Success")]
    assert bench.origin.groups["app/room"].streams.by_name == {}


def test_publish_and_close_stream_keeps_the_id(bench: Bench) -> None:
    client = streaming(bench)
    client.command("publish", "a", stream_id=1)
    client.take()
    client.command("closeStream", stream_id=1)
    assert client.take() == [PublishStopped(1, 1), ("onStatus", 1, "NetStream.Unpublish.Success")]
    client.command("closeStream", stream_id=1)
    client.command("closeStream", stream_id=9)
    assert client.take() == []
    client.command("publish", "b", stream_id=1)
    assert client.codes() == ["NetStream.Publish.Start"]


def test_publish_false_ends_it(bench: Bench) -> None:
    client = streaming(bench)
    client.command("publish", "a", stream_id=1)
    client.take()
    client.command("publish", False, stream_id=1)
    assert client.take() == [PublishStopped(1, 1), ("onStatus", 1, "NetStream.Unpublish.Success")]
    client.command("publish", False, stream_id=1)
    assert client.take() == []


@pytest.mark.parametrize("kind", ["live", "", None, UNDEFINED])
def test_publish_types_that_mean_live(bench: Bench, kind: Any) -> None:
    client = streaming(bench)
    client.command("publish", "a", kind, stream_id=1)
    assert client.codes() == ["NetStream.Publish.Start"]


@pytest.mark.parametrize("kind", ["record", "append", "LIVE", 5.0, True, {}, []])
def test_publish_types_that_do_not(bench: Bench, kind: Any) -> None:
    client = streaming(bench)
    client.command("publish", "a", kind, stream_id=1)
    assert client.take() == [("onStatus", 1, "NetStream.Publish.BadName")]
    assert bench.origin.groups["app/room"].streams.by_name == {}


BAD_NAMES: list[Any] = [
    "",
    "?x=1",
    "a" * 257,
    "a/../b",
    "a\x00b",
    "a\nb",
    "a<b",
    "a%2e",
    "a*",
    None,
    5.0,
    True,
    {},
    [],
    UNDEFINED,
    "a?" + "q" * 4097,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name)[:12])
def test_bad_names(bench: Bench, name: Any) -> None:
    client = streaming(bench)
    client.command("publish", name, "live", stream_id=1)
    client.command("play", name, stream_id=1)
    assert client.take() == [
        ("onStatus", 1, "NetStream.Publish.BadName"),
        ("onStatus", 1, "NetStream.Play.Failed"),
    ]
    assert bench.origin.groups["app/room"].streams.by_name == {}


@pytest.mark.parametrize("name", ["a" * 256, "mp4:läufer/one two.f4v", "日本", "a@b:c,d;e=f+g!(h)~'&"])
def test_good_names(bench: Bench, name: str) -> None:
    client = streaming(bench)
    client.command("publish", name + "?token=1", "live", stream_id=1)
    assert client.codes() == ["NetStream.Publish.Start"]
    assert list(bench.origin.groups["app/room"].streams.by_name) == [name]


def test_commands_without_arguments_never_fail(bench: Bench) -> None:
    client = streaming(bench)
    client.command("publish", stream_id=1)
    client.command("play", stream_id=1)
    for name in ("pause", "pauseRaw", "receiveAudio", "receiveVideo", "deleteStream", "closeStream"):
        client.command(name, stream_id=7)
    assert client.codes() == ["NetStream.Publish.BadName", "NetStream.Play.Failed"]


def test_streams_that_were_not_created(client: FakeClient) -> None:
    client.command("publish", "a", "live", stream_id=3)
    client.command("play", "a", stream_id=3)
    client.command("publish", "a", "live", stream_id=0)
    assert client.take() == [
        ("onStatus", 3, "NetStream.Publish.BadName"),
        ("onStatus", 3, "NetStream.Play.Failed"),
        ("onStatus", 0, "NetStream.Publish.BadName"),
    ]


def test_publish_is_denied_by_default(bench: Bench) -> None:
    client = streaming(bench, "closed/room")
    client.command("publish", "a", "live", stream_id=1)
    assert client.take() == [("onStatus", 1, "NetStream.Publish.Denied")]


def test_a_name_in_use_is_a_bad_name_from_any_edge(bench: Bench) -> None:
    one, two = streaming(bench), streaming(bench)
    one.command("publish", "a", stream_id=1)
    two.command("publish", "a?key=2", stream_id=1)
    assert two.take() == [("onStatus", 1, "NetStream.Publish.BadName")]
    one.command("createStream", transaction=3)
    one.command("publish", "a", stream_id=2)
    assert one.codes() == ["NetStream.Publish.Start", "NetStream.Publish.BadName"]
    one.detach()
    two.command("publish", "a", stream_id=1)
    assert two.codes() == ["NetStream.Publish.Start"]


def test_publish_again_on_the_same_stream_ends_the_first(bench: Bench) -> None:
    client = streaming(bench)
    client.command("publish", "a", stream_id=1)
    client.command("publish", "a", stream_id=1)
    client.command("publish", "b", stream_id=1)
    assert [type(part) for part in client.take() if not isinstance(part, tuple)] == [
        PublishStarted,
        PublishStopped,
        PublishStarted,
        PublishStopped,
        PublishStarted,
    ]
    assert list(bench.origin.groups["app/room"].streams.by_name) == ["b"]


def test_play_of_nothing_is_stream_not_found(bench: Bench) -> None:
    client = streaming(bench)
    client.command("play", "a", stream_id=1)
    assert client.take() == [("onStatus", 1, "NetStream.Play.StreamNotFound")]
    assert bench.origin.groups["app/room"].streams.by_name == {}


@pytest.mark.parametrize(
    ("arguments", "reset"),
    [
        ((), True),
        ((-2.0,), True),
        ((-2.0, -1.0, True), True),
        ((-2.0, -1.0, False), False),
        (({}, [], {}), True),
    ],
)
def test_play(bench: Bench, arguments: tuple[Any, ...], reset: bool) -> None:
    publisher, client = streaming(bench), streaming(bench)
    publisher.command("publish", "a", stream_id=1)
    client.command("play", "a", *arguments, stream_id=1)
    assert client.take() == [*started(reset=reset), PlayStarted(2, 1, 1)]


def test_statuses_of_play_name_the_stream(bench: Bench) -> None:
    publisher, client = streaming(bench), streaming(bench)
    publisher.command("publish", "a", stream_id=1)
    client.command("play", "a?token=secret", stream_id=1)
    told = [envelope.payload for envelope in client.link.log if hasattr(envelope, "payload")]
    assert sum(b"details" in payload for payload in told) == 2
    assert not any(b"secret" in payload for payload in told)


def test_play_waits_for_the_publisher_where_the_application_says_so(bench: Bench) -> None:
    client, publisher = streaming(bench, "waiting/room"), streaming(bench, "waiting/room")
    client.command("play", "a", stream_id=1)
    assert client.take() == [*started(), PlayStarted(1, 1, 1)]
    publisher.command("publish", "a", stream_id=1)
    assert client.take() == [("StreamBegin", 1), ("onStatus", 1, "NetStream.Play.PublishNotify")]
    publisher.command("closeStream", stream_id=1)
    assert client.take() == [("onStatus", 1, "NetStream.Play.UnpublishNotify"), ("StreamEOF", 1)]
    client.command("closeStream", stream_id=1)
    assert client.take() == [PlayStopped(1, 1)]
    assert bench.origin.groups["waiting/room"].streams.by_name == {}


def test_play_false_stops(bench: Bench) -> None:
    client = streaming(bench, "waiting/room")
    client.command("play", "a", stream_id=1)
    client.take()
    client.command("play", False, stream_id=1)
    assert client.take() == [PlayStopped(1, 1), ("onStatus", 1, "NetStream.Play.Stop")]
    client.command("play", False, stream_id=1)
    assert client.take() == [("onStatus", 1, "NetStream.Play.Stop")]


def test_play_of_another_stream_takes_the_place_of_the_first(bench: Bench) -> None:
    client = streaming(bench, "waiting/room")
    client.command("play", "a", stream_id=1)
    client.take()
    client.command("play", "b", stream_id=1)
    assert client.take() == [PlayStopped(1, 1), *started(), PlayStarted(1, 1, 2)]
    assert list(bench.origin.groups["waiting/room"].streams.by_name) == ["b"]


def test_pause(bench: Bench) -> None:
    client = streaming(bench, "waiting/room")
    client.command("pause", True, 0.0, stream_id=1)
    assert client.take() == []
    client.command("play", "a", stream_id=1)
    client.take()
    paused = [PlayChanged(1, 1, True, True, True), ("onStatus", 1, "NetStream.Pause.Notify")]
    going = [PlayChanged(1, 1, True, True, False), ("onStatus", 1, "NetStream.Unpause.Notify")]
    for name in ("pause", "pauseRaw"):
        client.command(name, True, 0.0, stream_id=1)
        assert client.take() == paused
        client.command(name, False, 0.0, stream_id=1)
        assert client.take() == going
    client.command("pause", stream_id=1)
    assert client.take() == paused
    client.command("pause", stream_id=1)
    assert client.take() == going


@pytest.mark.parametrize(("name", "kind"), [("receiveAudio", "audio"), ("receiveVideo", "video")])
def test_receive(bench: Bench, name: str, kind: str) -> None:
    client = streaming(bench, "waiting/room")
    client.command(name, False, stream_id=1)
    assert client.take() == []
    client.command("play", "a", stream_id=1)
    client.take()
    client.command(name, False, stream_id=1)
    without = PlayChanged(1, 1, kind != "audio", kind != "video", False)
    assert client.take() == [without]
    client.command(name, True, stream_id=1)
    assert client.take() == [
        PlayChanged(1, 1, True, True, False),
        ("onStatus", 1, "NetStream.Seek.Notify"),
        ("onStatus", 1, "NetStream.Play.Start"),
    ]
    client.command(name, {}, stream_id=1)
    assert client.take() == [without]


def test_seek_fails(bench: Bench) -> None:
    client = streaming(bench)
    client.command("seek", 1000.0, stream_id=1)
    client.command("seek", stream_id=1)
    assert client.codes() == ["NetStream.Seek.Failed"] * 2


def named(code: str, name: str, level: str = "status") -> dict[str, str]:
    return {"level": level, "code": code, "description": name}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("releaseStream", [("_result", 5.0, None)]),
        ("initStream", [("_result", 5.0, None)]),
        ("FCUnsubscribe", [("_result", 5.0, None)]),
        ("getStreamLength", [("_result", 5.0, 0.0)]),
        ("_checkbw", [("_result", 5.0, None), ("onBWDone", 0.0)]),
        ("FCPublish", [("_result", 5.0, None), ("onFCPublish", 0.0, named("NetStream.Publish.Start", "a"))]),
        (
            "FCUnpublish",
            [("_result", 5.0, None), ("onFCUnpublish", 0.0, named("NetStream.Unpublish.Success", "a"))],
        ),
        ("FCSubscribe", [("_result", 5.0, None), ("onFCSubscribe", 0.0, named("NetStream.Play.Start", "a"))]),
    ],
)
@pytest.mark.parametrize("amf3", [False, True])
def test_calls_that_encoders_and_players_make(
    bench: Bench, name: str, expected: list[Any], amf3: bool
) -> None:
    client = bench.joined(bench.edge(), amf3=amf3)
    client.command(name, "a", transaction=5)
    assert client.take() == expected


@pytest.mark.parametrize(
    "name", ["releaseStream", "FCPublish", "FCUnpublish", "FCSubscribe", "getStreamLength"]
)
@pytest.mark.parametrize("argument", [None, 5.0, {}, [], "x" * 5000, UNDEFINED])
def test_the_same_with_arguments_of_any_kind(client: FakeClient, name: str, argument: Any) -> None:
    client.command(name, argument, transaction=5)
    told = client.take()
    assert told[0][:2] == ("_result", 5.0)
    for _, _, info in told[1:]:
        assert len(info["description"]) <= 256


def test_the_same_without_a_transaction_id_get_no_result(client: FakeClient) -> None:
    for name in ("releaseStream", "FCUnsubscribe", "getStreamLength"):
        client.command(name, "a")
    assert client.take() == []
    client.command("FCPublish", "a")
    assert client.take() == [("onFCPublish", 0.0, named("NetStream.Publish.Start", "a"))]


def test_on_bw_done_comes_once(client: FakeClient) -> None:
    client.command("_checkbw", transaction=2)
    client.command("_checkbw", transaction=3)
    assert client.take() == [("_result", 2.0, None), ("onBWDone", 0.0), ("_result", 3.0, None)]


@pytest.mark.parametrize(
    "name", ["nothing", "", "connect", "constructor", "__proto__", "__class__", "n" * 9999]
)
def test_unknown_commands(client: FakeClient, name: str) -> None:
    client.command(name, 1.0)
    assert client.take() == []
    client.command(name, 1.0, transaction=9)
    ((what, transaction, info),) = client.take()
    assert (what, transaction) == ("_error", 9.0)
    assert (info["level"], info["code"]) == ("error", "NetConnection.Call.Failed")
    assert len(info["description"]) < 200


@pytest.mark.parametrize("transaction", [float("nan"), float("inf"), -1.0, 1e300])
def test_odd_transaction_ids(client: FakeClient, transaction: float) -> None:
    client.command("createStream", transaction=transaction)
    client.command("nothing", transaction=transaction)
    client.command("_result", 1.0, transaction=transaction)
    client.command("_error", transaction=transaction)
    assert [told[0] for told in client.take()] == ["_result", "_error"]
