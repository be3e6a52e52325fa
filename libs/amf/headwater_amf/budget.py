"""What a decoder may still spend on one body."""

from headwater_amf.errors import AmfDecodeError
from headwater_amf.limits import Limits


class Budget:
    """Counts nodes and depth down; shared by AMF0 and the AMF3 values inside it."""

    __slots__ = ("depth", "limits", "nodes")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nodes = limits.nodes
        self.depth = limits.depth

    def node(self, offset: int) -> None:
        """One more value. Raises AmfDecodeError when there were too many."""
        self.nodes -= 1
        if self.nodes < 0:
            raise AmfDecodeError(f"offset {offset}: more than {self.limits.nodes} values")

    def enter(self, offset: int) -> None:
        """One container deeper."""
        self.depth -= 1
        if self.depth < 0:
            raise AmfDecodeError(f"offset {offset}: nested deeper than {self.limits.depth}")

    def leave(self) -> None:
        """One container up again."""
        self.depth += 1

    def text(self, size: int, offset: int) -> None:
        """A string, XML text or ByteArray of `size` bytes."""
        if size > self.limits.string_bytes:
            raise AmfDecodeError(
                f"offset {offset}: {size} bytes in one string, at most {self.limits.string_bytes}"
            )
