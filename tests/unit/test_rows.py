"""Rows inside the payloads of the SharedObject envelopes; what an older or newer peer sends."""

from typing import Any

import msgpack
import pytest
from headwater_bus.codec import EnvelopeError
from headwater_bus.rows import pack_rows, unpack_rows


def test_rows_come_back_as_they_were() -> None:
    made = [[4, "x", b"\x05"], [8, "", b""], [6, "\u00fc\ud800", bytes(range(256))]]
    assert unpack_rows(pack_rows(made), int, str, bytes) == made
    assert unpack_rows(pack_rows([(1, "a")]), int, str) == [[1, "a"]]
    assert unpack_rows(pack_rows([]), int, str) == []


def test_what_newer_peers_add_is_cut_off() -> None:
    assert unpack_rows(pack_rows([[4, "x"], [5, "y", "new", 7]]), int, str) == [[4, "x"], [5, "y"]]


@pytest.mark.parametrize("made", [5, {"a": 1}, [5], [[4]], [["x", 4]], [[4, "x"], [4, b"x"]], [[True, "x"]]])
def test_what_are_no_rows_is_one_clear_error(made: Any) -> None:
    with pytest.raises(EnvelopeError, match="rows: expected"):
        unpack_rows(msgpack.packb(made), int, str)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92\x92", b"\x91\x81\x90\x00"])
def test_what_is_not_readable_is_one_clear_error(payload: bytes) -> None:
    with pytest.raises(EnvelopeError, match="rows: "):
        unpack_rows(payload, int, str)


def test_what_cannot_be_packed_leaves_nothing_behind() -> None:
    with pytest.raises((TypeError, OverflowError)):
        pack_rows([[1, "a"], [2**70, "b"]])
    assert unpack_rows(pack_rows([[1, "a"]]), int, str) == [[1, "a"]]
