"""The bytes of one body, and what a decoder may still spend on them."""

import struct
from typing import Final

from headwater_amf.errors import AmfDecodeError, AmfTruncated
from headwater_amf.limits import Limits

DOUBLE: Final = struct.Struct(">d")


Body = bytes | bytearray | memoryview


def checked(data: Body, offset: int, limits: Limits) -> bytes:
    """The body as `bytes` (other buffers are copied). Raises AmfDecodeError when it is over `total_bytes`."""
    if offset < 0:
        raise AmfDecodeError(f"offset {offset}: expected 0 or more")
    if len(data) - offset > limits.total_bytes:
        raise AmfDecodeError(
            f"offset {offset}: {len(data) - offset} bytes in one body, expected at most {limits.total_bytes}"
        )
    return data if isinstance(data, bytes) else bytes(data)


class Source:
    """A cursor over `data`, which `checked` has seen. `nodes` and `depth` are what is left of the limits; an AMF3 value
    inside an AMF0 body goes on with the body's."""

    __slots__ = ("at", "data", "depth", "end", "limits", "nodes")

    def __init__(self, data: bytes, offset: int, limits: Limits, nodes: int, depth: int) -> None:
        self.data = data
        self.at = offset
        self.end = len(data)
        self.limits = limits
        self.nodes = nodes
        self.depth = depth

    def take(self, count: int, what: str) -> int:
        """The offset of the next `count` bytes, which are consumed. Raises AmfTruncated."""
        at = self.at
        if count > self.end - at:
            raise AmfTruncated(
                f"offset {at}: expected {what} of {count} bytes, {max(self.end - at, 0)} are left"
            )
        self.at = at + count
        return at

    def byte(self, what: str) -> int:
        """The next byte. Raises AmfTruncated."""
        at = self.at
        if at >= self.end:
            raise AmfTruncated(f"offset {at}: expected {what}, no bytes are left")
        self.at = at + 1
        return self.data[at]

    def double(self) -> float:
        """A Number. Raises AmfTruncated."""
        value: float = DOUBLE.unpack_from(self.data, self.take(8, "a number"))[0]
        return value

    def raw(self, size: int, what: str) -> bytes:
        """`size` bytes of a string, XML or ByteArray. Raises AmfDecodeError when there are too many or too few."""
        if size > self.limits.string_bytes:
            raise AmfDecodeError(
                f"offset {self.at}: {what} of {size} bytes, expected at most {self.limits.string_bytes}"
            )
        at = self.take(size, what)
        return self.data[at : at + size]

    def text(self, size: int, what: str = "a string") -> str:
        """`size` bytes of UTF-8. Raises AmfDecodeError."""
        raw = self.raw(size, what)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise AmfDecodeError(
                f"offset {self.at - size + error.start}: {what} with byte 0x{raw[error.start]:02x}, expected UTF-8:"
                f" {error.reason}"
            ) from error

    def spend(self, nodes: int) -> None:
        """Count values that are not read one by one. Raises AmfDecodeError."""
        self.nodes -= nodes
        if self.nodes < 0:
            raise AmfDecodeError(
                f"offset {self.at}: {self.limits.nodes - self.nodes} values, expected at most {self.limits.nodes} in one body"
            )

    def enter(self) -> None:
        """One container deeper. Raises AmfDecodeError."""
        self.depth -= 1
        if self.depth < 0:
            raise AmfDecodeError(
                f"offset {self.at}: nested {self.limits.depth - self.depth} deep, expected at most {self.limits.depth}"
            )

    def fits(self, count: int, size: int, what: str) -> int:
        """A declared count of things of at least `size` bytes each. Raises AmfTruncated when they cannot be there."""
        if count * size > self.end - self.at:
            raise AmfTruncated(
                f"offset {self.at}: {count} {what} declared, expected what fits into the {self.end - self.at} bytes left"
            )
        return count
