"""The origin: a player goes on over another edge, which has told it a part of the stream. No sockets."""

from typing import Any

import pytest
from headwater_bus import traffic
from support.resuming_edges import Reader
from support.stream_cast import Cast


class Taking:
    """The first player's edge is lost and has told it the stream but for the last messages; it comes back as one of an edge that
    knows that much. `behind`: so many; `position`: what it knows instead."""

    def __init__(self, cast: Cast, behind: int, position: int | None = None) -> None:
        self.cast, self.edge, self.player = cast, cast.edges[1], cast.players[0]
        self.position = self.edge.last_number - behind if position is None else position
        self.edge.cut()
        self.edge.last_number = 0
        self.edge.got.clear()
        self.seen: list[Any] = []
        carry_out = self.edge._carry_out
        self.edge._carry_out = lambda envelope: (self.seen.append(envelope), carry_out(envelope))  # type: ignore[method-assign,assignment,func-returns-value]
        self.edge.streams_of = self._streams_of  # type: ignore[method-assign]

    def _streams_of(self, client: Reader) -> list[list[Any]]:
        return [["a", self.position, 1]] if client is self.player else []

    def resume(self) -> tuple[bool, list[int]]:
        """Returns whether it goes on, and the pictures that it alone is told before."""
        self.seen.clear()
        self.cast.resume(1)
        at, started = next(
            (at, envelope)
            for at, envelope in enumerate(self.seen)
            if isinstance(envelope, traffic.PlayStarted)
        )
        told = [
            int(envelope.payload[5:])
            for envelope in self.seen[:at]
            if isinstance(envelope, traffic.ToClient) and envelope.type_id == 9
        ]
        return started.resumed, told


@pytest.fixture
def cast() -> Cast:
    """The pictures 0 to 2 have been shown."""
    return Cast()


def test_a_player_is_told_what_it_lacks_and_goes_on(cast: Cast) -> None:
    taking = Taking(cast, behind=1)
    cast.pictures(3, 8)
    cast.quiet()
    assert taking.resume() == (True, [2, 3, 4, 5, 6, 7])
    before = len(taking.edge.got[-1])
    cast.pictures(8, 10)
    cast.quiet()
    # What comes next of the stream is what comes next for it.
    assert [one[1] for one in taking.edge.got[-1][before:]] == [8, 9]


def test_a_player_that_lacks_nothing_goes_on(cast: Cast) -> None:
    assert Taking(cast, behind=0).resume() == (True, [])


@pytest.mark.parametrize("behind", [-1, 6, 1000])
def test_a_position_that_is_not_of_what_is_kept_starts_it_anew(cast: Cast, behind: int) -> None:
    assert Taking(cast, behind).resume() == (False, [])


def test_who_had_nothing_yet_is_started_as_a_new_one(cast: Cast) -> None:
    assert Taking(cast, 0, position=0).resume() == (False, [])


def test_what_is_not_kept_any_more_starts_it_anew(cast: Cast) -> None:
    taking = Taking(cast, behind=0)
    cast.pictures(3, 1020)
    cast.quiet()
    assert taking.resume() == (False, [])
