"""Limits against values that are cheap to send and dear to hold."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`depth`: nested containers; `nodes`: values in one body, every reference counted again; `string_bytes`: of
    one string, XML or ByteArray; `total_bytes`: of a whole body."""

    depth: int = 32
    nodes: int = 10_000
    string_bytes: int = 65_536
    total_bytes: int = 4 * 1024 * 1024


DEFAULT_LIMITS = Limits()
