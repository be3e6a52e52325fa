"""RTMPT's targets, numbers and poll bytes."""

import pytest
from headwater_rtmp.rtmpt import (
    Ident,
    Open,
    PollPacing,
    Sequence,
    SessionRequest,
    Verb,
    Verdict,
    new_session_id,
    parse_target,
    session_target,
)

ID = "abcdefghijklmnop"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/fcs/ident2", Ident()),
        ("/fcs/ident", Ident()),
        ("/open/1", Open()),
        ("/open", Open()),
        (f"/send/{ID}/0", SessionRequest(Verb.SEND, ID, 0)),
        (f"/idle/{ID}/7?x=1", SessionRequest(Verb.IDLE, ID, 7)),
        (f"/close/{ID}/4294967297", SessionRequest(Verb.CLOSE, ID, 1)),
        ("/send/short/1", None),
        (f"/send/{ID}/-1", None),
        (f"/send/{ID}/", None),
        (f"/send/{ID}", None),
        (f"/SEND/{ID}/1", None),
        (f"/send/{ID}/1/2", None),
        (f"/send/{'a' * 61}/1", None),
        ("/send/../../etc/passwd", None),
        ("/", None),
        ("", None),
    ],
)
def test_targets(target: str, expected: object) -> None:
    assert parse_target(target) == expected


def test_ids_are_new_and_fit_into_clients() -> None:
    ids = {new_session_id() for _ in range(100)}
    assert len(ids) == 100
    for one in ids:
        assert len(one) <= 60
        assert parse_target(session_target(Verb.SEND, one, 3)) == SessionRequest(Verb.SEND, one, 3)


def taken(*numbers: int) -> Sequence:
    sequence = Sequence()
    for number in numbers:
        assert sequence.judge(number) is Verdict.NEXT
        sequence.took(number, Verb.SEND)
    return sequence


@pytest.mark.parametrize("first", [0, 1, 2, 77, 2**32 - 1])
def test_the_first_may_be_any_and_then_each_is_one_more(first: int) -> None:
    sequence = taken(first, (first + 1) % 2**32, (first + 2) % 2**32)
    assert sequence.judge((first + 2) % 2**32) is Verdict.REPEAT
    assert sequence.judge((first + 1) % 2**32) is Verdict.OLD
    assert sequence.judge((first + 4) % 2**32) is Verdict.EARLY
    assert sequence.judge((first + 11) % 2**32) is Verdict.EARLY
    assert sequence.judge((first + 12) % 2**32) is Verdict.WRONG
    assert sequence.expected == (first + 3) % 2**32


def test_behind_what_another_server_knew_any_later_one_may_come_once() -> None:
    sequence = Sequence.restored(10)
    assert sequence.judge(10) is Verdict.REPEAT
    assert sequence.judge(9) is Verdict.OLD
    assert sequence.judge(500) is Verdict.NEXT
    sequence.took(500, Verb.SEND)
    assert sequence.judge(502) is Verdict.EARLY
    assert Sequence.restored(-1).judge(3) is Verdict.NEXT


def test_a_request_that_asks_may_be_an_old_copy_as_long_as_nothing_is_told() -> None:
    sequence = Sequence.restored(10)
    sequence.took(12, Verb.IDLE)
    assert (sequence.open, sequence.unsure) == (True, False)
    assert sequence.judge(20) is Verdict.NEXT
    sequence.took(20, Verb.IDLE)
    sequence.told()
    assert (sequence.open, sequence.unsure) == (False, True)
    for known in (sequence, Sequence.restored(20, unsure=True)):
        # Who has heard that goes on with the next number. For who has not it is lost.
        assert known.judge(22) is Verdict.EARLY
        assert known.judge(40) is Verdict.WRONG
        assert known.judge(20) is Verdict.REPEAT
        assert known.judge(21) is Verdict.NEXT
        known.took(21, Verb.IDLE)
        known.told()
        assert (known.open, known.unsure) == (False, False)


def test_who_hears_nothing_is_asked_to_wait_longer() -> None:
    pacing = PollPacing()
    polls = [pacing.answered(0) for _ in range(70)]
    assert polls[0] == 0x01
    assert sorted(set(polls)) == [0x01, 0x03, 0x05, 0x09, 0x11, 0x21]
    assert polls == sorted(polls)
    assert PollPacing.load(pacing.dump()).answered(0) == 0x21
    assert pacing.answered(1) == 0x01
