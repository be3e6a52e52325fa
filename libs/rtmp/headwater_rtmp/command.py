"""Commands and data messages (RTMP 1.0, sections 7.1.1 and 7.1.2): AMF0 (types 20, 18) and AMF3 (17, 15).

An AMF3 body is a zero byte and then AMF0 values, of which those that need AMF3 stand behind an AVMPLUS marker.
"""

from dataclasses import dataclass
from typing import Any

from headwater_amf import AmfDecodeError, AmfEncodeError, amf0

from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message, MessageType

_AMF3_TYPES = frozenset((MessageType.COMMAND_AMF3, MessageType.DATA_AMF3, MessageType.SHARED_OBJECT_AMF3))


@dataclass(slots=True, init=False)
class Command:
    """A command: a call (transaction id not 0), a notice (0), or the answer to one (`_result`, `_error`)."""

    name: str
    transaction_id: float
    command_object: Any
    args: list[Any]
    stream_id: int
    amf3: bool

    # Written out, as in `Message`.
    def __init__(
        self,
        name: str,
        transaction_id: float,
        command_object: Any,
        args: list[Any] | None = None,
        stream_id: int = 0,
        amf3: bool = False,
    ) -> None:
        self.name = name
        self.transaction_id = transaction_id
        self.command_object = command_object
        self.args = [] if args is None else args
        self.stream_id = stream_id
        self.amf3 = amf3

    @property
    def is_answer(self) -> bool:
        """Whether it answers a call, whose transaction id it has (7.2.1.2)."""
        return self.name in ("_result", "_error")


def decode_values(message: Message) -> list[Any]:
    """The AMF values of a command or data message of either kind. Raises RemoteProtocolError."""
    offset = 0
    if message.type_id in _AMF3_TYPES and message.payload[:1] in (b"\x00", b"\x03"):
        offset = 1
    try:
        return amf0.decode_all(message.payload, offset)
    except AmfDecodeError as error:
        raise RemoteProtocolError(f"message type {message.type_id}: {error}") from error


def decode_command(message: Message) -> Command:
    """The command in a message of type 20 or 17. Raises RemoteProtocolError."""
    values = decode_values(message)
    if not values or not isinstance(values[0], str):
        raise RemoteProtocolError(
            f"command: expected a name, got {type(values[0]).__name__ if values else 'nothing'}"
        )
    transaction_id = values[1] if len(values) > 1 else 0.0
    if type(transaction_id) is not float and type(transaction_id) is not int:
        raise RemoteProtocolError(
            f"command {values[0][:64]!r}: expected a transaction id, got {type(values[1]).__name__}"
        )
    return Command(
        values[0],
        float(transaction_id),
        values[2] if len(values) > 2 else None,
        values[3:],
        message.stream_id,
        message.type_id == MessageType.COMMAND_AMF3,
    )


def _values(values: tuple[Any, ...], amf3: bool) -> bytes:
    try:
        if not amf3:
            return amf0.encode(*values)
        # Scalars that AMF0 has stay AMF0; everything structured goes out as AMF3.
        return b"".join(
            amf0.encode(value)
            if value is None
            or (type(value) in (str, float, bool) and not (type(value) is str and len(value) > 16_000))
            else amf0.encode_avmplus(value)
            for value in values
        )
    except AmfEncodeError as error:
        raise LocalProtocolError(str(error)) from error


def encode_command(
    name: str,
    transaction_id: float,
    command_object: Any = None,
    *args: Any,
    stream_id: int = 0,
    amf3: bool = False,
    timestamp: int = 0,
) -> Message:
    """A command as a message. Raises LocalProtocolError for a value without an AMF form."""
    body = _values((name, float(transaction_id)), False) + _values((command_object, *args), amf3)
    if amf3:
        return Message(MessageType.COMMAND_AMF3, stream_id, timestamp, b"\x00" + body)
    return Message(MessageType.COMMAND_AMF0, stream_id, timestamp, body)


def decode_data(message: Message) -> list[Any]:
    """The values of a data message (types 18, 15), the handler's name first. Raises RemoteProtocolError."""
    return decode_values(message)


def encode_data(*values: Any, stream_id: int = 0, amf3: bool = False, timestamp: int = 0) -> Message:
    """A data message. Raises LocalProtocolError."""
    body = _values(values, amf3)
    if amf3:
        return Message(MessageType.DATA_AMF3, stream_id, timestamp, b"\x00" + body)
    return Message(MessageType.DATA_AMF0, stream_id, timestamp, body)
