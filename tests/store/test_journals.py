"""What every engine's journals do: load, append, snapshot, drop, and refuse whoever's time is over."""

import itertools
import time
from collections.abc import Callable

import pytest
from headwater_store import Append, Fenced, Journals, Loaded, StoreError, WentBack, open_journals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.conftest import ENGINES, LASTING
from support.waiting import TIME_FACTOR

Connect = Callable[[str], Journals]
every_engine = pytest.mark.parametrize("url", ENGINES, indirect=True)
every_lasting_engine = pytest.mark.parametrize("url", LASTING, indirect=True)
NOTHING = Loaded(None, 0, [], 0, 0)


@pytest.fixture
def journals(connect: Connect, url: str) -> Journals:
    return connect(url)


def texts(outcomes: list[Fenced | WentBack | None]) -> list[str]:
    return [str(outcome) for outcome in outcomes]


@every_engine
def test_entries_come_back_in_order(journals: Journals) -> None:
    assert journals.open("chat/a", 5) == NOTHING
    odd = [b"", b"\x00\xff", b"x" * 100_000, "é".encode()]
    assert journals.append([Append("chat/a", 5, 0, odd)]) == [None]
    assert journals.append([Append("chat/a", 5, 4, [b"y"]), Append("chat/a", 5, 5, [])]) == [None, None]
    assert journals.open("chat/a", 5) == Loaded(None, 0, [*odd, b"y"], 5, 5)
    assert journals.open("chat/b", 6) == NOTHING
    assert journals.append([]) == []


@every_engine
def test_groups_do_not_know_of_each_other(journals: Journals) -> None:
    names = ["a", "chat/é", "x#so:{b}", "x#so:{b", "}{", "*", "g" * 1300]
    for epoch, name in enumerate(names, 1):
        journals.open(name, epoch)
    assert journals.groups() == []
    batch = [Append(name, epoch, 0, [name.encode()]) for epoch, name in enumerate(names, 1)]
    assert journals.append(batch) == [None] * len(names)
    assert journals.groups() == sorted(names)
    for epoch, name in enumerate(names, 1):
        assert journals.open(name, epoch) == Loaded(None, 0, [name.encode()], 1, epoch)


@every_engine
def test_an_older_epoch_is_refused_everything(journals: Journals) -> None:
    journals.open("g", 1)
    journals.append([Append("g", 1, 0, [b"1"])])
    assert journals.open("g", 3) == Loaded(None, 0, [b"1"], 1, 1)
    outcomes = journals.append([Append("g", 1, 1, [b"2"]), Append("g", 3, 1, [b"3"]), Append("g", 2, 2, [])])
    assert [type(outcome) for outcome in outcomes] == [Fenced, type(None), Fenced]
    assert isinstance(outcomes[0], Fenced)
    assert (outcomes[0].group, outcomes[0].epoch) == ("g", 3)
    assert str(outcomes[0]) == "group g: its journal is held by the owner of epoch 3"
    for refused in (
        lambda: journals.open("g", 2),
        lambda: journals.snapshot("g", 2, 2, b"s"),
        lambda: journals.drop("g", 2),
    ):
        with pytest.raises(Fenced) as caught:
            refused()
        assert caught.value.epoch == 3
    assert journals.open("g", 3) == Loaded(None, 0, [b"1", b"3"], 2, 3)


@every_engine
def test_many_are_opened_together_and_a_refused_one_harms_no_other(journals: Journals) -> None:
    names = [f"chat/{number}" for number in range(100)]
    assert journals.open_many([(name, 1) for name in names]) == [NOTHING] * 100
    journals.append([Append(name, 1, 0, [name.encode()]) for name in names])
    journals.snapshot("chat/7", 1, 1, b"seven")
    journals.open("chat/3", 9)
    opened = journals.open_many([(name, 2) for name in reversed(names)])
    assert [str(outcome) for outcome in opened if isinstance(outcome, StoreError)] == [
        "group chat/3: its journal is held by the owner of epoch 9"
    ]
    assert opened[-4:] == [
        opened[-4],
        Loaded(None, 0, [b"chat/2"], 1, 1),
        Loaded(None, 0, [b"chat/1"], 1, 1),
        Loaded(None, 0, [b"chat/0"], 1, 1),
    ]
    assert opened[-8] == Loaded(b"seven", 1, [], 1, 1)
    outcomes = journals.append([Append(name, 1, 1, [b"late"]) for name in names])
    assert [type(outcome) for outcome in outcomes] == [Fenced] * 100
    assert journals.open_many([]) == []


@every_engine
def test_a_refused_append_harms_no_other(journals: Journals) -> None:
    for group, epoch in (("a", 1), ("b", 2), ("c", 1)):
        journals.open(group, epoch)
    outcomes = journals.append(
        [
            Append("a", 1, 0, [b"a1"]),
            Append("b", 1, 0, [b"no"]),
            Append("c", 1, 0, [b"c1"]),
            Append("a", 1, 2, [b"no"]),
            Append("a", 1, 1, [b"a2"]),
            Append("never opened", 1, 0, [b"no"]),
        ]
    )
    assert texts(outcomes) == [
        "None",
        "group b: its journal is held by the owner of epoch 2",
        "None",
        "group a: the store went back in time: its journal ends at entry 1, was at 2",
        "None",
        "group never opened: the store went back in time: its journal ends at entry 0, was at 0",
    ]
    assert journals.open("a", 1).entries == [b"a1", b"a2"]
    assert journals.open("b", 2).entries == []
    assert journals.open("c", 1).entries == [b"c1"]


@every_engine
def test_one_append_for_very_many_groups(journals: Journals) -> None:
    names = [f"app/{number}" for number in range(600)]
    assert not [each for each in journals.open_many([(name, 1) for name in names]) if each != NOTHING]
    batches = ([Append(name, 1, after, [b"%d" % after]) for name in names] for after in range(2))
    for batch in batches:
        assert journals.append(batch) == [None] * len(names)
    assert [journals.open(name, 1).entries for name in names[::100]] == [[b"0", b"1"]] * 6


@every_engine
def test_a_repeated_append_is_not_appended_twice(journals: Journals) -> None:
    journals.open("g", 1)
    batch = [Append("g", 1, 0, [b"1", b"2", b"3"])]
    assert journals.append(batch) == journals.append(batch) == [None]
    # The next call may hold more than the one whose answer was lost.
    assert journals.append([Append("g", 1, 1, [b"2", b"3", b"4"])]) == [None]
    assert journals.append([Append("g", 1, 2, [b"3"])]) == [None]
    journals.snapshot("g", 1, 2, b"s")
    assert journals.append(batch) == [None]
    assert journals.append([Append("g", 1, 0, [b"1"]), Append("g", 1, 1, [b"2", b"3", b"4", b"5"])]) == [
        None,
        None,
    ]
    assert journals.open("g", 1) == Loaded(b"s", 2, [b"3", b"4", b"5"], 5, 1)


@every_engine
def test_two_owners_of_one_epoch_are_told_apart_by_what_they_write(journals: Journals) -> None:
    """A registry that went back in time may grant an epoch twice: the second writer must not take the first one's entries for
    its own."""
    journals.open("g", 1)
    journals.open("g", 1)
    assert journals.append([Append("g", 1, 0, [b"1", b"2"])]) == [None]
    for other in (Append("g", 1, 0, [b"1", b"other"]), Append("g", 1, 1, [b"other", b"3"])):
        assert texts(journals.append([other])) == ["group g: its journal is held by the owner of epoch 1"]
    journals.snapshot("g", 1, 1, b"s")
    assert isinstance(journals.append([Append("g", 1, 0, [b"1", b"other"])])[0], Fenced)
    assert journals.open("g", 1) == Loaded(b"s", 1, [b"2"], 2, 1)


@every_engine
def test_a_snapshot_takes_the_place_of_entries(journals: Journals) -> None:
    journals.open("g", 1)
    journals.append([Append("g", 1, 0, [b"1", b"2", b"3", b"4"])])
    journals.snapshot("g", 1, 3, b"up to 3")
    journals.snapshot("g", 1, 3, b"UP TO 3")
    assert journals.open("g", 1) == Loaded(b"UP TO 3", 3, [b"4"], 4, 1)
    assert journals.append([Append("g", 1, 4, [b"5"])]) == [None]
    journals.snapshot("g", 1, 5, b"")
    assert journals.open("g", 2) == Loaded(b"", 5, [], 5, 1)
    with pytest.raises(StoreError, match=r"group g: snapshot of .*, expected 5 or later"):
        journals.snapshot("g", 3, 4, b"late")
    assert journals.append([Append("g", 2, 5, [])]) == [None]  # What was refused has changed nothing.
    journals.snapshot("h", 1, 0, b"before any entry")
    assert journals.open("h", 1) == Loaded(b"before any entry", 0, [], 0, 1)
    assert journals.groups() == ["g", "h"]


@every_engine
def test_one_goes_on_above_what_the_store_has_lost(journals: Journals) -> None:
    journals.open("g", 4)
    journals.append([Append("g", 4, 0, [b"1", b"2"])])
    lost = journals.append([Append("g", 4, 7, [b"8"])])[0]
    assert isinstance(lost, WentBack)
    assert (lost.group, lost.tail, lost.expected) == ("g", 2, 7)
    journals.snapshot("g", 4, 8, b"all that was seen")
    assert journals.append([Append("g", 4, 8, [b"9"])]) == [None]
    assert journals.open("g", 4) == Loaded(b"all that was seen", 8, [b"9"], 9, 4)
    # It has lost that this epoch opened it, too.
    assert isinstance(journals.append([Append("g", 6, 9, [b"10"])])[0], WentBack)
    journals.snapshot("g", 6, 10, b"again")
    assert isinstance(journals.append([Append("g", 5, 10, [b"x"])])[0], Fenced)
    assert journals.append([Append("g", 6, 10, [b"11"])]) == [None]
    assert journals.open("g", 6) == Loaded(b"again", 10, [b"11"], 11, 6)


@every_engine
def test_a_dropped_group_leaves_its_fence(journals: Journals) -> None:
    journals.open("g", 2)
    journals.append([Append("g", 2, 0, [b"1", b"2"])])
    journals.snapshot("g", 2, 1, b"s")
    journals.drop("g", 2)
    assert journals.groups() == []
    with pytest.raises(Fenced):
        journals.open("g", 1)
    journals.drop("g", 2)
    # It may begin anew, without a new epoch.
    assert journals.append([Append("g", 2, 0, [b"new"])]) == [None]
    assert journals.open("g", 3) == Loaded(None, 0, [b"new"], 1, 2)
    journals.drop("never there", 7)
    with pytest.raises(Fenced):
        journals.open("never there", 6)
    assert journals.groups() == ["g"]


@every_engine
def test_what_one_process_writes_another_loads(connect: Connect, url: str) -> None:
    one, other = connect(url), connect(url)
    one.open("g", 1)
    one.append([Append("g", 1, 0, [b"1"])])
    assert other.open("g", 2) == Loaded(None, 0, [b"1"], 1, 1)
    assert isinstance(one.append([Append("g", 1, 1, [b"late"])])[0], Fenced)
    assert other.append([Append("g", 2, 1, [b"2"])]) == [None]
    one.close()
    assert other.groups() == ["g"]


@every_lasting_engine
def test_it_lasts(connect: Connect, url: str) -> None:
    first = connect(url)
    first.open("g", 1)
    first.append([Append("g", 1, 0, [b"1", b"2"])])
    first.snapshot("g", 1, 1, b"s")
    first.close()
    first.close()
    with pytest.raises(StoreError, match="closed"):
        first.open("g", 1)
    assert connect(url).open("g", 2) == Loaded(b"s", 1, [b"2"], 2, 1)


@every_engine
def test_ten_thousand_entries_load_in_half_a_second(journals: Journals) -> None:
    entries = [b"%d" % number * 40 for number in range(10_000)]
    journals.open("g", 1)
    for at in range(0, 10_000, 2500):
        assert journals.append([Append("g", 1, at, entries[at : at + 2500])]) == [None]
    began = time.perf_counter()
    loaded = journals.open("g", 2)
    took_s = time.perf_counter() - began
    assert loaded.entries == entries
    assert took_s < 0.5 * TIME_FACTOR, took_s


@every_engine
def test_numbers_and_epochs_may_be_large(journals: Journals) -> None:
    epoch, number = 2**53 - 2, 2**52
    journals.open("g", epoch)
    journals.snapshot("g", epoch, number, b"s")
    assert journals.append([Append("g", epoch, number, [b"x"])]) == [None]
    assert journals.append([Append("g", epoch, number, [b"x", b"y"])]) == [None]
    assert journals.open("g", epoch + 1) == Loaded(b"s", number, [b"x", b"y"], number + 2, epoch)
    assert texts(journals.append([Append("g", epoch, number, [b"z"])])) == [
        f"group g: its journal is held by the owner of epoch {epoch + 1}"
    ]


GROUP = st.sampled_from(["a", "b"])
EPOCH = st.integers(1, 4)
NUMBER = st.integers(0, 6)
ENTRIES = st.lists(st.sampled_from([b"x", b"y"]), max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), GROUP, EPOCH),
        st.tuples(st.just("drop"), GROUP, EPOCH),
        st.tuples(st.just("snapshot"), GROUP, EPOCH, NUMBER, st.binary(max_size=2)),
        st.tuples(st.just("append"), GROUP, EPOCH, NUMBER, ENTRIES),
    ),
    max_size=25,
)
_EXAMPLES = itertools.count()


def outcome_of(journals: Journals, method: str, group: str, epoch: int, *rest: object) -> object:
    """What a call answered or raised, as far as engines agree on it."""
    try:
        if method == "append":
            number, entries = rest
            return texts(journals.append([Append(group, epoch, number, entries)]))  # type: ignore[arg-type]
        return getattr(journals, method)(group, epoch, *rest)
    except StoreError as error:
        return type(error)


@every_lasting_engine
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_every_engine_does_as_the_one_in_memory(
    journals: Journals, steps: list[tuple[str, str, int, object]]
) -> None:
    model = open_journals("memory:")
    example = next(_EXAMPLES)
    for method, group, *rest in steps:
        name = f"{example}/{group}"
        answers = [outcome_of(one, method, name, *rest) for one in (model, journals)]  # type: ignore[arg-type]
        assert answers[0] == answers[1], method
    assert model.groups() == [name for name in journals.groups() if name.startswith(f"{example}/")]
