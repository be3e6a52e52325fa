"""Limits against values that are cheap to send and dear to hold."""

from dataclasses import dataclass
from typing import Final

DEEPEST: Final = 128
"""No decoder may be told to go deeper: each level takes up to three frames of Python's stack."""

ENCODE_DEPTH: Final = 64
"""Containers that an encoder nests: twice what a decoder takes by default, far less than Python's stack holds."""

ENCODE_BYTES: Final = 0xFFFFFF
"""Bytes of one encoded body: what the 24 bits of an RTMP message length can say. It also bounds what AMF3 references
can grow to in AMF0, which has none for strings."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`depth`: nested containers, at most DEEPEST; `nodes`: values in one body, every reference, vector item and declared
    member name counted again; `string_bytes`: of one string, XML or ByteArray; `total_bytes`: of a whole body.

    Raises ValueError for a depth that Python's stack could not follow."""

    depth: int = 32
    nodes: int = 10_000
    string_bytes: int = 65_536
    total_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= DEEPEST:
            raise ValueError(f"depth {self.depth}, expected 1 to {DEEPEST}")


DEFAULT_LIMITS: Final = Limits()
