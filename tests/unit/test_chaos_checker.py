"""The chaos suite's checker finds what it is there for: each wrong history gives a finding, and right ones give none."""

from collections.abc import Callable
from typing import Any

import pytest
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import EventType
from support.chaos_checks import (
    Calls,
    Findings,
    History,
    Media,
    ObjectTruth,
    Replica,
    Sequence,
    check_run_of,
)
from support.chaos_clients import audio, number_of, video

CHANGE, SUCCESS = EventType.CHANGE, EventType.SUCCESS


class Watched:
    """A history whose clock the test moves."""

    def __init__(self, client: str = "ann", findings: Findings | None = None) -> None:
        self.now_s = 0.0
        self.findings = findings if findings is not None else Findings(lambda: self.now_s)
        self.history = History(client, self.findings)

    def found(self) -> list[str]:
        """The rules that were broken, in order."""
        return [finding.rule for finding in self.findings.kept]


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize(
    ("heard", "sent", "rules"),
    [
        ([1, 2, 3], 3, []),
        ([], 0, []),
        ([1, 3], 3, ["lost or late", "lost"]),
        ([1, 2], 3, ["lost"]),
        ([2, 3], 3, ["lost or late", "lost"]),
        ([1, 2, 2, 3], 3, ["twice"]),
        ([1, 2, 3, 1], 3, ["twice"]),
        ([1, 3, 2], 3, ["lost or late", "out of order"]),
        ([2, 1, 3], 3, ["lost or late", "out of order"]),
        ([1, 3, 2, 2], 3, ["lost or late", "out of order", "twice"]),
        ([1, 2, 3], 2, ["lost"]),
    ],
)
def test_messages(watched: Watched, heard: list[int], sent: int, rules: list[str]) -> None:
    sequence = Sequence(watched.history, "words of bob")
    for number in heard:
        sequence.heard(number)
    sequence.finish(sent)
    assert watched.found() == rules


def result(asked: int, **other: Any) -> tuple[int, dict[str, Any]]:
    """Of a call: its number, and what came."""
    return asked, {
        "name": "ann",
        "number": asked,
        "runs": 1.0,
        "mine": asked,
        "sum": 10.0 * asked,
        **other,
    }


@pytest.mark.parametrize(
    ("results", "journal", "rules"),
    [
        ([result(1), result(2)], {"1": 1.0, "2": 1.0}, []),
        ([result(1), result(2, runs=2.0)], {"1": 1.0, "2": 2.0}, ["run twice", "run twice"]),
        ([result(1), result(2)], {"1": 1.0}, ["not run"]),
        ([result(1), result(2)], {"1": 1.0, "2": 2.0}, ["run twice"]),
        ([result(1), result(2)], {"1": 1.0, "2": 1.0, "3": 1.0}, ["run but never sent"]),
        ([result(1)], {"1": 1.0, "2": 1.0}, ["not answered"]),
        ([result(1), result(2), result(2)], {"1": 1.0, "2": 1.0}, ["answered twice"]),
        ([result(1), result(2, number=1)], {"1": 1.0, "2": 1.0}, ["wrong result"]),
        ([result(1), result(2, name="bob")], {"1": 1.0, "2": 1.0}, ["wrong result"]),
        ([result(1), result(2, mine=3)], {"1": 1.0, "2": 1.0}, ["wrong result"]),
        ([result(1), result(2, sum=10.0)], {"1": 1.0, "2": 1.0}, ["wrong result"]),
        ([result(1), (2, None)], {"1": 1.0, "2": 1.0}, ["wrong result"]),
    ],
)
def test_calls(
    watched: Watched, results: list[tuple[int, Any]], journal: dict[str, float], rules: list[str]
) -> None:
    calls = Calls(watched.history, "ann")
    for _ in range(2):
        calls.ask()
    for number, value in results:
        calls.answer(number, value)
    calls.finish(journal)
    assert watched.found() == rules


def test_a_call_that_fails_is_found(watched: Watched) -> None:
    calls = Calls(watched.history, "ann")
    calls.fail(calls.ask(), RuntimeError("no answer within 60 s"))
    calls.finish({"1": 1.0})
    assert watched.found() == ["call failed"]


def replica(watched: Watched, truth: ObjectTruth | None = None) -> Replica:
    made = Replica(watched.history, truth if truth is not None else ObjectTruth(), "board", "shared")
    made.begins(0, {})
    return made


def test_an_object_that_all_is_well_with(watched: Watched) -> None:
    board = replica(watched)
    board.asked("ann", 1)
    board.asked("ann", 2)
    board.message(1, [(SUCCESS, "ann", None)])
    # Two commits as one message, and values of others that were left out.
    board.message(3, [(SUCCESS, "ann", None), (CHANGE, "bob", 7.0)])
    board.message(3, [])
    board.message(4, [(CHANGE, "bob", 9.0)])
    board.finish({"ann": 2.0, "bob": 9.0}, 4, {"ann": 2.0, "bob": 9.0})
    assert watched.found() == []
    assert board.acknowledged == {"ann": 2}


Wrong = Callable[[Replica], object]


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        (lambda board: board.message(0, [(CHANGE, "bob", 2.0)]), ["went back", "two histories"]),
        (lambda board: board.message(2, [(CHANGE, "bob", 1.0)]), ["twice"]),
        (lambda board: board.message(2, [(CHANGE, "bob", 0.0)]), ["went back"]),
        (lambda board: board.message(2, [(SUCCESS, "ann", None)]), ["answered twice"]),
        (lambda board: board.message(1, [(CHANGE, "bob", 2.0)]), ["two histories"]),
        (lambda board: board.cleared(), ["sent all again"]),
        (lambda board: board.refused("SharedObject.NoWriteAccess"), ["change refused"]),
        (lambda board: board.asked("ann", 1), ["not answered"]),
    ],
)
def test_an_object_that_something_is_wrong_with(watched: Watched, wrong: Wrong, rules: list[str]) -> None:
    truth = ObjectTruth()
    truth.seen(watched.history, "bob", 0, 0.0)
    board = replica(watched, truth)
    board.message(1, [(CHANGE, "bob", 1.0)])
    wrong(board)
    board.finish({}, board.version, {})
    assert watched.found() == rules


@pytest.mark.parametrize(
    ("contents", "version", "stored", "rules"),
    [
        ({"ann": 1.0}, 1, {"ann": 1.0, "bob": 2.0}, ["replicas differ"]),
        ({"ann": 1.0, "bob": 1.0}, 1, {"ann": 1.0, "bob": 2.0}, ["replicas differ"]),
        ({"ann": 1.0}, 2, {"ann": 1.0}, ["replicas differ"]),
        ({"ann": 1.0}, 1, {}, ["replicas differ", "acknowledged and lost"]),
        ({"ann": 0.0}, 1, {"ann": 0.0}, ["acknowledged and lost"]),
    ],
)
def test_the_end_of_an_object(
    watched: Watched, contents: dict[str, Any], version: int, stored: dict[str, Any], rules: list[str]
) -> None:
    board = replica(watched)
    board.asked("ann", 1.0)
    board.message(1, [(SUCCESS, "ann", None)])
    board.finish(contents, version, stored)
    assert watched.found() == rules


def test_a_slot_that_all_set_has_one_order(watched: Watched) -> None:
    """What each client may have left out differs; what two of them saw in two orders is found."""
    truth = ObjectTruth()
    bob = Watched("bob", watched.findings)
    anns, bobs = replica(watched, truth), replica(bob, truth)
    anns.message(1, [(CHANGE, "shared", "a")])
    anns.message(2, [(CHANGE, "shared", "b")])
    anns.message(4, [(CHANGE, "shared", "d")])
    # Bob was away, and was told the difference.
    bobs.message(3, [(CHANGE, "shared", "c")])
    bobs.message(5, [(CHANGE, "shared", "d")])
    contents = {"shared": "d"}
    anns.version = 5
    for board in (anns, bobs):
        board.finish(contents, 5, contents)
    assert watched.found() == []
    bobs.message(6, [(CHANGE, "shared", "b")])
    bobs.finish({"shared": "b"}, 6, {"shared": "b"})
    assert watched.found() == ["two histories"]


def play(watched: Watched, frames: list[tuple[int, bool]], pause_at: int = 0, pause_s: float = 0.0) -> Media:
    media = Media(watched.history, "cam", ring_s=4.0)
    for number, keyframe in frames:
        watched.now_s += pause_s if number == pause_at else 0.04
        media.frame(number, keyframe)
    return media


@pytest.mark.parametrize(
    ("frames", "rules"),
    [
        ([(5, True), (6, False), (7, False), (8, True)], []),
        ([(5, False), (6, False), (7, True), (8, False)], ["no keyframe"]),
        ([(5, True), (7, True), (8, False)], ["gap"]),
        ([(5, True), (6, False), (6, False), (7, False), (8, False)], ["twice"]),
        ([(5, True), (6, False), (5, True), (7, False), (8, False)], ["twice"]),
        ([(5, True), (6, False), (7, False)], ["lost"]),
    ],
)
def test_a_stream(watched: Watched, frames: list[tuple[int, bool]], rules: list[str]) -> None:
    media = play(watched, frames)
    media.finish(8)
    assert watched.found() == rules
    assert media.gaps == 0


@pytest.mark.parametrize(
    ("keyframe", "pause_s", "rules", "gaps"),
    [(True, 5.0, [], 1), (False, 5.0, ["no keyframe"], 0), (True, 3.0, ["gap"], 0)],
)
def test_a_gap_is_allowed_after_a_long_silence_and_ends_at_a_keyframe(
    watched: Watched, keyframe: bool, pause_s: float, rules: list[str], gaps: int
) -> None:
    media = play(watched, [(1, True), (2, False), (90, keyframe), (91, False)], pause_at=90, pause_s=pause_s)
    assert (watched.found(), media.gaps) == (rules, gaps)


def test_pictures_and_sound_carry_their_number() -> None:
    for number in (1, 255, 70_000):
        assert number_of(Message(MessageType.VIDEO, 1, 0, video(number, keyframe=True))) == number
        assert number_of(Message(MessageType.VIDEO, 1, 0, video(number, keyframe=False))) == number
        assert number_of(Message(MessageType.AUDIO, 1, 0, audio(number))) == number
    assert number_of(Message(MessageType.VIDEO, 1, 0, b"\x17\x00\x00\x00\x00")) is None


@pytest.mark.parametrize(
    ("received", "rules"),
    [
        ("bcd", []),
        ("cdaabcdaab", []),
        ("bcdd", ["gap"]),
        ("bcaa", ["gap"]),
        ("xbc", ["gap"]),
        ("bc", ["lost"]),
    ],
)
def test_packets_of_a_repeated_source(watched: Watched, received: str, rules: list[str]) -> None:
    """The source holds one packet twice."""
    check_run_of(watched.history, "video", list("aabcd"), list(received), at_least=3)
    assert watched.found() == rules


def test_a_finding_has_the_lines_before_and_after_it(watched: Watched) -> None:
    for number in range(100):
        watched.now_s += 1
        watched.history.note(f"hears {number}")
        if number == 50:
            watched.history.wrong("lost", "something")
    report = watched.findings.report()
    assert "1 findings: 1 x lost" in report
    assert "ann: something" in report
    assert [f"hears {number}" in report for number in (20, 40, 50, 60, 80)] == [
        False,
        True,
        True,
        True,
        False,
    ]
