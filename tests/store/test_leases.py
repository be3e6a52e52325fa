"""What every engine's leased records do."""

from collections.abc import Callable, Iterator

import pytest
from headwater_store import Held, Leases, LeaseWrite, Lost, StoreError, Taken, open_leases
from store.conftest import ENGINES, LASTING
from support.waiting import TIME_FACTOR, eventually

LONG_S = 60.0
SHORT_S = 0.05
Open = Callable[..., Leases]
every_engine = pytest.mark.parametrize("url", ENGINES, indirect=True)
every_lasting_engine = pytest.mark.parametrize("url", LASTING, indirect=True)


@pytest.fixture
def open_one(url: str) -> Iterator[Open]:
    opened: list[Leases] = []

    def open_again(name: str = "sessions", keep_s: float = LONG_S) -> Leases:
        opened.append(open_leases(url, name, keep_s=keep_s))
        return opened[-1]

    yield open_again
    for leases in opened:
        leases.close()


def refused(leases: Leases, key: str, holder: str) -> bool:
    try:
        leases.take(key, holder, LONG_S)
    except Held:
        return True
    return False


@every_engine
def test_one_holder_at_a_time(open_one: Open) -> None:
    one, other = open_one(), open_one()
    taken = one.take("s/é", "edge-1", LONG_S)
    assert taken.data is None
    one.write("s/é", taken.fence, b"\x00state", LONG_S)
    with pytest.raises(Held, match="s/é: held by edge-1") as caught:
        other.take("s/é", "edge-2", LONG_S)
    assert (caught.value.key, caught.value.holder) == ("s/é", "edge-1")
    assert other.take("another", "edge-2", LONG_S).data is None
    one.release("s/é", taken.fence)
    again = other.take("s/é", "edge-2", LONG_S)
    assert again.data == b"\x00state"
    assert again.fence > taken.fence
    with pytest.raises(Lost, match="s/é: taken by another since"):
        one.write("s/é", taken.fence, b"late", LONG_S)
    # What is not the caller's any more it does not change.
    one.release("s/é", taken.fence)
    one.drop("s/é", taken.fence)
    assert refused(one, "s/é", "edge-1")
    other.write("s/é", again.fence, b"", LONG_S)
    other.release("s/é", again.fence)
    assert one.take("s/é", "edge-1", LONG_S).data == b""


@every_engine
def test_a_lease_that_ends_is_free_and_no_loss_until_it_is_taken(open_one: Open) -> None:
    one, other = open_one(), open_one()
    taken = one.take("s", "edge-1", SHORT_S)
    one.write("s", taken.fence, b"1", SHORT_S)
    eventually(lambda: not refused(other, "s", "edge-2"), within_s=5)
    with pytest.raises(Lost):
        one.write("s", taken.fence, b"2", SHORT_S)
    mine = other.take("s", "edge-2", SHORT_S)
    assert mine.data == b"1"
    other.write("s", mine.fence, b"3", SHORT_S)
    other.release("s", mine.fence)
    other.write("s", mine.fence, b"4", LONG_S)
    assert refused(one, "s", "edge-1")


@every_engine
def test_a_holder_takes_its_own_again_with_a_new_fence(open_one: Open) -> None:
    leases = open_one()
    first = leases.take("s", "edge-1", LONG_S)
    leases.write("s", first.fence, b"1", LONG_S)
    second = leases.take("s", "edge-1", LONG_S)
    assert second == Taken(b"1", second.fence)
    with pytest.raises(Lost):
        leases.write("s", first.fence, b"2", LONG_S)
    leases.write("s", second.fence, b"3", LONG_S)


@every_engine
def test_a_write_extends_the_lease(open_one: Open) -> None:
    one, other = open_one(), open_one()
    taken = one.take("s", "edge-1", 0.5 * TIME_FACTOR)
    one.write("s", taken.fence, b"1", LONG_S)
    other.take("clock", "edge-2", 0.5 * TIME_FACTOR)
    eventually(lambda: not refused(other, "clock", "edge-3"), within_s=5)
    assert refused(other, "s", "edge-2")


@every_engine
def test_what_is_dropped_is_gone_and_its_fence_is_never_given_again(open_one: Open) -> None:
    leases = open_one()
    taken = leases.take("s", "edge-1", LONG_S)
    leases.write("s", taken.fence, b"1", LONG_S)
    leases.drop("s", taken.fence)
    with pytest.raises(Lost):
        leases.write("s", taken.fence, b"2", LONG_S)
    anew = leases.take("s", "edge-2", LONG_S)
    assert anew.data is None
    assert anew.fence > taken.fence


@every_engine
def test_what_nobody_has_held_for_long_is_forgotten(open_one: Open) -> None:
    leases = open_one(keep_s=0.3)
    first = leases.take("first", "edge-1", SHORT_S)
    keys = [f"s{number}" for number in range(200)]
    for key in keys:
        taken = leases.take(key, "edge-1", SHORT_S)
        leases.write(key, taken.fence, b"1", SHORT_S)
    # Whoever looks whether one is there holds it: so another one each time.
    unseen = iter(keys)
    eventually(lambda: leases.take(next(unseen), "edge-1", SHORT_S).data is None, within_s=1.9)
    with pytest.raises(Lost):
        leases.write("first", first.fence, b"2", SHORT_S)


@every_engine
def test_names_keep_leases_apart(open_one: Open) -> None:
    leases, others = open_one("sessions"), open_one("tables")
    leases.take("s", "edge-1", LONG_S)
    assert others.take("s", "edge-2", LONG_S).data is None


@every_lasting_engine
def test_leases_last(open_one: Open) -> None:
    leases = open_one()
    taken = leases.take("s", "edge-1", LONG_S)
    leases.write("s", taken.fence, b"1", LONG_S)
    leases.close()
    leases.close()
    with pytest.raises(StoreError, match="closed"):
        leases.take("s", "edge-1", LONG_S)
    again = open_one()
    again.write("s", taken.fence, b"2", LONG_S)
    assert refused(again, "s", "edge-2")


@every_engine
def test_many_are_written_at_once_and_each_says_whether_it_was(open_one: Open) -> None:
    one, other = open_one(), open_one()
    fences = {key: one.take(key, "one", 0.0).fence for key in ("a", "b", "c")}
    stolen = other.take("b", "other", 0.0)
    assert stolen.fence > fences["b"]
    writes = [LeaseWrite(key, fence, key.encode()) for key, fence in fences.items()]
    assert one.write_many(writes, 0.0) == [True, False, True]
    assert other.write_many([LeaseWrite("b", stolen.fence, b"theirs")], 0.0) == [True]
    assert [one.take(key, "one", 0.0).data for key in ("a", "b", "c")] == [b"a", b"theirs", b"c"]
    assert one.write_many([], 0.0) == []


@every_engine
def test_many_are_taken_over_at_once_whoever_holds_them(open_one: Open) -> None:
    one, other = open_one(), open_one()
    held = {key: one.take(key, "one", LONG_S) for key in ("a", "b", "c")}
    one.write("a", held["a"].fence, b"1", LONG_S)
    one.write("b", held["b"].fence, b"2", LONG_S)
    a, none, b, unwritten = other.take_over(["a", "nobody's", "b", "c"], "other")
    assert a is not None
    assert b is not None
    assert unwritten is not None
    assert (a.data, b.data, unwritten.data, none) == (b"1", b"2", None, None)
    assert a.fence > held["a"].fence
    writes = [LeaseWrite(key, held[key].fence, b"late") for key in ("a", "b")]
    assert one.write_many(writes, 0.0) == [False, False]
    assert other.write_many([LeaseWrite("a", a.fence, b"3")], 0.0) == [True]
    # Nobody waits for the end of anything.
    again = one.take_over(["a"], "one")[0]
    assert again is not None
    assert (again.data, again.fence > a.fence) == (b"3", True)
    # There was none, so there is none now.
    assert one.take("nobody's", "one", LONG_S).data is None
    assert other.take_over([], "other") == []


@every_engine
def test_what_was_forgotten_is_not_taken_over(open_one: Open) -> None:
    leases = open_one(keep_s=0.2)
    keys = [f"s{number}" for number in range(200)]
    for key in keys:
        leases.write(key, leases.take(key, "one", SHORT_S).fence, b"1", SHORT_S)
    # Whoever looks takes it, and it is kept for as long again: so another one each time.
    unseen = iter(keys)
    eventually(lambda: leases.take_over([next(unseen)], "one") == [None], within_s=1.9)
