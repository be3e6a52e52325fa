"""What persistent objects hold survives a clean stop of everything, and the kill of everything."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from headwater_amf import (
    UNDEFINED,
    ArrayCollection,
    Date,
    Dictionary,
    EcmaArray,
    TypedObject,
    Vector,
    Xml,
    XmlDocument,
)
from headwater_client import ConnectError, NetConnection, SharedObject
from support.cluster import Cluster
from support.redis import RedisServer
from support.waiting import eventually

pytestmark = pytest.mark.cluster
EVERYTHING = ["registry.1", "balancer.1", "origin.1", "origin.2", "edge.1", "edge.2"]


def synced(connection: NetConnection, name: str, persistent: bool = True) -> SharedObject:
    shared = connection.shared_object(name, persistent)
    shared.wait_synced(20)
    return shared


def start_again(cluster: Cluster) -> None:
    for name in EVERYTHING:
        cluster.start_process(name)
    # The registry knows them from before: what counts is that they serve.
    for edge in (1, 2):
        eventually(lambda edge=edge: connects(cluster.rtmp_url(edge, "live/up")), within_s=30)  # type: ignore[misc]


def connects(url: str) -> bool:
    try:
        with NetConnection(url, timeout_s=5):
            return True
    except ConnectError:
        return False


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_persistent_object_survives_the_kill_of_everything(
    store: str, make_cluster: Callable[..., Cluster], make_redis: Callable[[], RedisServer]
) -> None:
    redis = make_redis() if store == "redis" else None
    options = (
        {"origin": f"--store {redis.url}", "registry": f"--store {redis.url}"} if redis is not None else {}
    )
    cluster = make_cluster(None, options)
    for round_ in range(1, 4):
        with (
            NetConnection(cluster.rtmp_url(1, "live/kept"), timeout_s=20) as ann,
            NetConnection(cluster.rtmp_url(2, "live/kept"), timeout_s=20) as bob,
        ):
            board, temporary = synced(ann, "board"), synced(bob, "board", persistent=False)
            assert board.get("round", 0.0) == round_ - 1
            # The clients' death is noticed when a successor has waited for them.
            assert dict(temporary) in ({}, {"x": 1.0})
            board["round"] = float(round_)
            board[f"slot{round_}"] = ["text", float(round_)]
            board.flush(20)
            temporary["x"] = 1.0
            temporary.flush(20)
            for name in EVERYTHING:
                cluster.kill(name)
            if redis is not None:
                redis.kill()
                redis.start()
            eventually(lambda: ann.closed.is_set() and bob.closed.is_set(), within_s=20)
        start_again(cluster)
    with NetConnection(cluster.rtmp_url(1, "live/kept"), timeout_s=20) as ann:
        board = synced(ann, "board")
        assert dict(board) == {
            "round": 3.0,
            **{f"slot{number}": ["text", float(number)] for number in (1, 2, 3)},
        }
        assert board.version == 6


AMF0_VALUES: dict[str, Any] = {
    "number": 1.5,
    "yes": True,
    "no": False,
    "text": "grüße \U0001f600",
    "long text": "x" * 60_000,
    "object": {"a": {"b": [1.0, None, "c"]}},
    "empty": {},
    "list": [1.0, "two", [3.0]],
    "ecma": EcmaArray({"0": "a", "name": 2.0}),
    "date": Date(datetime.datetime(2007, 5, 1, 12, 30, tzinfo=datetime.UTC).timestamp() * 1000),
    "xml": XmlDocument("<a>b</a>"),
    "typed": TypedObject("com.example.Seat", {"taken": True}),
    "undefined inside": [UNDEFINED],
}
AMF3_VALUES: dict[str, Any] = {
    "integer": 5,
    "bytes": b"\x00\xff\x01",
    "xml3": Xml("<x/>"),
    "ints": Vector("int", [1, -2, 3]),
    "doubles": Vector("number", [0.5, 1.5]),
    "dictionary": Dictionary([("key", 1.0)]),
    "collection": ArrayCollection([1.0, "two"]),
}


def test_clients_of_both_amf_versions_agree_on_every_value_across_a_restart(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster()

    def check(amf0_sees: SharedObject, amf3_sees: SharedObject) -> tuple[dict[str, Any], dict[str, Any]]:
        wanted = set(AMF0_VALUES) | set(AMF3_VALUES)
        eventually(lambda: set(amf0_sees) == wanted == set(amf3_sees), within_s=20)
        return dict(amf0_sees), dict(amf3_sees)

    with (
        NetConnection(cluster.rtmp_url(1, "live/values"), timeout_s=20) as ann,
        NetConnection(cluster.rtmp_url(2, "live/values"), object_encoding=3, timeout_s=20) as bob,
    ):
        anns, bobs = synced(ann, "values"), synced(bob, "values")
        for key, value in AMF0_VALUES.items():
            anns[key] = value
        for key, value in AMF3_VALUES.items():
            bobs[key] = value
        anns.flush(20)
        bobs.flush(20)
        before = check(anns, bobs)
        for key, value in AMF0_VALUES.items():
            assert before[0][key] == value, key
        for key, value in AMF3_VALUES.items():
            assert before[1][key] == value, key
    with (
        NetConnection(cluster.rtmp_url(2, "live/values"), timeout_s=20) as ann,
        NetConnection(cluster.rtmp_url(1, "live/values"), object_encoding=3, timeout_s=20) as bob,
    ):
        # As who comes later sees them, not as who has set them.
        before = check(synced(ann, "values"), synced(bob, "values"))
    for name in EVERYTHING:
        cluster.kill(name)
    start_again(cluster)
    with (
        NetConnection(cluster.rtmp_url(1, "live/values"), timeout_s=20) as ann,
        NetConnection(cluster.rtmp_url(2, "live/values"), object_encoding=3, timeout_s=20) as bob,
    ):
        assert check(synced(ann, "values"), synced(bob, "values")) == before


def test_the_store_is_where_the_operator_says(make_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    cluster = make_cluster(None, {"origin": f"--store sqlite:{folder}"})
    with NetConnection(cluster.rtmp_url(1, "live/place")) as ann:
        board = synced(ann, "board")
        board["x"] = 1.0
        board.flush(10)
    assert list(folder.glob("journal-*.sqlite"))
    assert not list((cluster.folder / "data").glob("journal-*"))
