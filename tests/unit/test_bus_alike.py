"""Equal values of many owners are kept once, and none is kept without an owner."""

from headwater_bus.alike import Alike


def test_an_equal_value_of_an_owner_that_is_there_is_shared() -> None:
    values: dict[int, bytes] = {}
    alike = Alike(values.get)
    for owner in range(3):
        values[owner] = alike.shared(owner, b"the %s" % b"same", b"the same")
    assert values[0] is values[1] is values[2]
    values[3] = alike.shared(3, b"another", b"another")
    assert values[3] == b"another"


def test_only_what_is_wholly_equal_is_shared() -> None:
    values: dict[int, tuple[int, bytes]] = {}
    alike = Alike(values.get)
    values[1] = alike.shared(1, (20, b"content"), b"content")
    values[2] = alike.shared(2, (17, b"content"), b"content")
    assert values == {1: (20, b"content"), 2: (17, b"content")}


def test_nothing_is_kept_of_an_owner_that_has_gone() -> None:
    values: dict[int, bytearray] = {}
    alike = Alike(values.get)
    values[1] = alike.shared(1, bytearray(b"token"), b"token")
    del values[1]
    mine = bytearray(b"token")
    assert alike.shared(2, mine, b"token") is mine


def test_it_does_not_grow_with_all_that_it_has_seen() -> None:
    values: dict[int, bytes] = {}
    alike = Alike(values.get)
    for owner in range(1000):
        alike.shared(owner, b"%d" % owner, b"%d" % owner)
    assert len(alike._owners) <= 256
