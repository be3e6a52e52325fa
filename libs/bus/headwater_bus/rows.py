"""Payloads of the SharedObject envelopes: a msgpack array of rows, each a flat array.

Packed apart from their envelope, so that one commit is packed once however many edges it goes to, and so that the link
counts and cuts its batches by the bytes that such an envelope really has.
"""

from collections.abc import Sequence
from typing import Any

import msgpack

from headwater_bus.codec import UNREADABLE, EnvelopeError

_pack = msgpack.Packer(unicode_errors="surrogatepass").pack
"""Kept, as making a packer takes longer than packing a row."""


def pack_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows of integers, text and bytes."""
    packed: bytes = _pack(rows)
    return packed


def unpack_rows(payload: bytes, *types: type) -> list[list[Any]]:
    """Rows with a value of each type; what newer peers add at their ends is cut off. Raises EnvelopeError."""
    try:
        rows = msgpack.unpackb(payload, unicode_errors="surrogatepass")
    except UNREADABLE as error:
        raise EnvelopeError(f"rows: not readable: {error}") from error
    if type(rows) is not list:
        raise EnvelopeError(f"rows: expected an array, got {type(rows).__name__}")
    expected = [*types]
    for at, row in enumerate(rows):
        if type(row) is not list or [*map(type, row)] != expected:
            rows[at] = _cut(row, expected)
    return rows


def _cut(row: Any, expected: list[type]) -> list[Any]:
    cut = row[: len(expected)] if type(row) is list else []
    if [*map(type, cut)] != expected:
        raise EnvelopeError(
            f"rows: expected {', '.join(kind.__name__ for kind in expected)}, got {row!r:.80}"
        )
    return cut
