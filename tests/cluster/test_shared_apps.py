"""An application's SharedObjects, together in one group and each a group of its own: nobody can tell the difference, except
where they sit."""

from collections.abc import Iterator

import gevent
import pytest
from headwater_client import CallFailed, NetConnection, SharedObject
from support.cluster import Cluster, ending_well
from support.waiting import eventually

pytestmark = pytest.mark.cluster
APPS = "--app together={0}:Together --app spread={0}:Spread --app checked={0}:Checked --app spreadchecked={0}:SpreadChecked"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two edges and three origins."""
    with ending_well(
        Cluster(
            tmp_path_factory.mktemp("three-origins"),
            {"origin": 3},
            {"origin": APPS.format("tests.support.shared_app")},
        )
    ) as running:
        yield running


both = pytest.mark.parametrize("app", ["together", "spread"])
both_checked = pytest.mark.parametrize("app", ["checked", "spreadchecked"])


def synced(connection: NetConnection, name: str, persistent: bool = False) -> SharedObject:
    shared = connection.shared_object(name, persistent)
    shared.wait_synced(10)
    return shared


def same(*objects: SharedObject) -> bool:
    return len({shared.version for shared in objects}) == 1 and all(
        dict(shared) == dict(objects[0]) for shared in objects
    )


@both
def test_clients_and_application_share_an_object(three: Cluster, app: str) -> None:
    with (
        NetConnection(three.rtmp_url(1, f"{app}/room")) as ann,
        NetConnection(three.rtmp_url(2, f"{app}/room"), object_encoding=3) as bob,
    ):
        anns, bobs = synced(ann, "board"), synced(bob, "board")
        said: list[tuple[object, ...]] = []
        for shared in (anns, bobs):
            shared.on("said", lambda *args: said.append(args))
        anns.update({"x": 1.0, "y": [1.0, {"a": "b"}]})
        anns.flush(10)
        eventually(lambda: dict(bobs) == {"x": 1.0, "y": [1.0, {"a": "b"}]}, within_s=10)
        assert ann.call("put", "board", {"x": 2.0, "z": "by the application", "y": None}) == {
            "x": 2.0,
            "z": "by the application",
        }
        eventually(lambda: same(anns, bobs) and "y" not in bobs, within_s=10)
        ann.call("say", "board", "hello")
        bobs.send("said", "from bob")
        eventually(lambda: sorted(said) == [("from bob",)] * 2 + [("hello",)] * 2, within_s=10)
        assert ann.call("contents", "board") == dict(bobs)


@both
def test_temporary_and_persistent_are_two_objects(three: Cluster, app: str) -> None:
    with NetConnection(three.rtmp_url(1, f"{app}/kinds")) as ann:
        temporary, persistent = synced(ann, "both"), synced(ann, "both", True)
        temporary["kind"] = "temporary"
        persistent["kind"] = "persistent"
        temporary.flush(10)
        persistent.flush(10)
        with NetConnection(three.rtmp_url(2, f"{app}/kinds")) as bob:
            assert dict(synced(bob, "both")) == {"kind": "temporary"}
            assert dict(synced(bob, "both", True)) == {"kind": "persistent"}


@both
def test_access_is_the_applications(three: Cluster, app: str) -> None:
    with NetConnection(three.rtmp_url(1, f"{app}/access")) as ann:
        ann.call("put", "shown", {"x": 1.0})
        shown = synced(ann, "shown")
        assert dict(shown) == {"x": 1.0}
        shown["x"] = 5.0
        eventually(lambda: bool(shown.errors) and dict(shown) == {"x": 1.0}, within_s=10)
        assert shown.errors[-1].code == "SharedObject.NoWriteAccess"
        secret = ann.shared_object("secret")
        eventually(lambda: bool(secret.errors), within_s=10)
        # And it goes on after both.
        own = synced(ann, "own")
        own["x"] = 1.0
        own.flush(10)


@both
def test_what_raises_has_changed_nothing_and_what_returns_all(three: Cluster, app: str) -> None:
    with NetConnection(three.rtmp_url(1, f"{app}/atomic")) as ann:
        one, other = synced(ann, "one"), synced(ann, "other")
        with pytest.raises(CallFailed):
            ann.call("put_two", "one", "other", -1.0)
        ann.call("put_two", "one", "other", 7.0)
        eventually(lambda: dict(one) == dict(other) == {"value": 7.0}, within_s=10)
        assert (one.version, other.version) == (1, 1)


@both
def test_handlers_of_the_application_hear_clients(three: Cluster, app: str) -> None:
    with NetConnection(three.rtmp_url(2, f"{app}/watch")) as ann:
        watched = synced(ann, "watched")
        watched["x"] = 1.0
        watched.flush(10)
        watched.send("wave", "hello")
        del watched["x"]
        watched.flush(10)
        expected = [["change", {"x": 1.0}], ["wave", "hello"], ["change", {"x": None}]]
        eventually(lambda: ann.call("what_was_heard") == expected, within_s=10)


@both
def test_counting_under_a_lock_loses_nothing(three: Cluster, app: str) -> None:
    with (
        NetConnection(three.rtmp_url(1, f"{app}/lock")) as ann,
        NetConnection(three.rtmp_url(2, f"{app}/lock")) as bob,
    ):
        shared = synced(bob, "counter")
        jobs = [gevent.spawn(who.call, "count", "counter") for who in (ann, bob) * 10]
        shared["by bob"] = 1.0
        shared.flush(10)
        gevent.joinall(jobs, raise_error=True, timeout=30)
        assert sorted(job.get() for job in jobs) == [float(number) for number in range(1, 21)]
        eventually(lambda: dict(shared) == {"count": 20.0, "by bob": 1.0}, within_s=10)


@both
def test_objects_can_be_released_and_used_again(three: Cluster, app: str) -> None:
    with (
        NetConnection(three.rtmp_url(1, f"{app}/again")) as ann,
        NetConnection(three.rtmp_url(1, f"{app}/again")) as bob,
    ):
        anns, bobs = synced(ann, "board"), synced(bob, "board")
        for round_ in range(5):
            anns.close()
            bobs["round"] = float(round_)
            bobs.flush(10)
            anns = synced(ann, "board")
            seen = {"seen": round_ - 1.0} if round_ else {}
            assert dict(anns) == {"round": float(round_), **seen}
            anns["seen"] = float(round_)
            anns.flush(10)
        eventually(lambda: dict(bobs) == {"round": 4.0, "seen": 4.0}, within_s=10)


@both_checked
def test_every_change_is_asked_for(three: Cluster, app: str) -> None:
    with (
        NetConnection(three.rtmp_url(1, f"{app}/checked")) as ann,
        NetConnection(three.rtmp_url(2, f"{app}/checked")) as bob,
    ):
        anns, bobs = synced(ann, "board"), synced(bob, "board")
        heard: list[str] = []
        bobs.on("shout", lambda: heard.append("shout"))
        bobs.on("whisper", lambda: heard.append("whisper"))
        anns.update({"good": 1.0, "bad": -1.0, "fixed": 2.0})
        eventually(lambda: dict(bobs) == {"good": 1.0, "fixed": 2.0} and same(anns, bobs), within_s=10)
        assert [error.code for error in anns.errors] == ["SharedObject.NoWriteAccess"]
        bobs["good"] = -5.0
        del anns["fixed"]
        anns.send("shout")
        anns.send("whisper")
        eventually(lambda: heard == ["whisper"], within_s=10)
        eventually(lambda: dict(anns) == {"good": 1.0, "fixed": 2.0} and same(anns, bobs), within_s=10)


def test_spread_objects_sit_on_all_origins(three: Cluster) -> None:
    """60 objects, 300 clients over two edges, each with five of them."""
    connections: list[NetConnection] = []
    objects: dict[str, list[SharedObject]] = {}
    for number in range(300):
        connection = NetConnection(three.rtmp_url(1 + number % 2, "spread/crowd"), timeout_s=30)
        connection.connect()
        connections.append(connection)
        for step in range(5):
            name = f"object{(number * 7 + step * 13) % 60}"
            objects.setdefault(name, []).append(connection.shared_object(name))
    for users in objects.values():
        for shared in users:
            shared.wait_synced(60)
    assert len(objects) == 60

    def work(users: list[SharedObject]) -> None:
        for number, shared in enumerate(users):
            shared[f"slot{number % 10}"] = float(number)
        for shared in users:
            shared.flush(60)

    gevent.joinall([gevent.spawn(work, users) for users in objects.values()], raise_error=True, timeout=120)
    for users in objects.values():
        eventually(lambda users=users: same(*users), within_s=30)  # type: ignore[misc]
        assert len(users[0]) == 10
    rows = [
        row for row in three.cli("headwater-registry", "groups", "--json") if "#so:object" in row["group"]
    ]
    sits = {row["group"].partition("#so:")[2]: row["origin"] for row in rows}
    assert len(sits) == 60
    assert set(sits.values()) == {"origin-1", "origin-2", "origin-3"}
    for number in range(0, 300, 60):
        names = [f"object{(number * 7 + step * 13) % 60}" for step in range(5)]
        used = {sits[name] for name in names}
        if len(used) == 3:
            break
    else:
        pytest.fail(f"no session uses objects of all three origins: {sits}")
    for connection in connections:
        connection.close()
