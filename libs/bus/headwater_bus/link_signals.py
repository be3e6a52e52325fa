"""What the two ends of a link say to each other beside their batches: the header frame that each message begins with."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import msgpack


class Signal(IntEnum):
    """First element of a header frame."""

    HELLO = 1
    """[1, protocol version, node id, boot id, window_bytes, wanted]: opens the link; where `wanted` is true the
    receiver answers with a HELLO of its own."""
    DATA = 2
    """[2, batch number from 1, acknowledged number] and the frames of one batch."""
    ACK = 3
    """[3, acknowledged number, resend]: resend is true where the sender of the ACK saw a gap."""
    PING = 4
    """[4, acknowledged number, last number sent, reconnected]: sent when nothing else was for a heartbeat, when
    acknowledgements are overdue or wanted at once, and after a reconnect; answered with an ACK, which asks for a resend
    where the last number sent is missing, and after a reconnect with a PING, too, where the other end has something under way."""
    BYE = 5
    """[5, reason]: this end closes the link; nothing sent after it is read."""
    RESET = 6
    """[6, boot id]: the receiver knows no such link (it restarted, or gave the link up)."""


class LinkProtocolError(ValueError):
    """The peer sent what no Headwater node of this protocol version sends; the link must be closed."""


def pack_header(*values: Any) -> bytes:
    """The frame of a signal and its fields."""
    packed: bytes = msgpack.packb(values, unicode_errors="surrogatepass")
    return packed


def read_header(frames: Sequence[Any]) -> list[Any]:
    """The header of a link message. Raises LinkProtocolError."""
    try:
        header = msgpack.unpackb(bytes(frames[0]), unicode_errors="surrogatepass")
    except (ValueError, IndexError, TypeError, msgpack.UnpackException) as error:
        raise LinkProtocolError(f"header not readable: {error}") from error
    if type(header) is not list or not header or type(header[0]) is not int:
        raise LinkProtocolError("header: expected [signal, ...]")
    return header


def bye(reason: str) -> list[bytes]:
    """The message that closes a link."""
    return [pack_header(Signal.BYE, reason[:200])]


def reset(boot: str) -> list[bytes]:
    """The answer to a message of a link that this node does not have."""
    return [pack_header(Signal.RESET, boot)]
