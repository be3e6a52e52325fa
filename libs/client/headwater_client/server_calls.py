"""What the server calls here, and what it is answered."""

import logging
from collections.abc import Callable
from typing import Any

from headwater_rtmp.command import Command, encode_command
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.status import StatusCode, status

from headwater_client.dispatch import Dispatcher
from headwater_client.errors import ConnectionClosed
from headwater_client.transport import Transport

_BANDWIDTH = {"onBWCheck": 0.0, "onBWDone": None}
"""What a server that measures the bandwidth calls, and what Flash clients answer, unless a handler is registered."""
_log = logging.getLogger("headwater_client")


class ServerCalls:
    """`handlers` by name; they run one after the other, and may wait."""

    __slots__ = ("_dispatcher", "handlers")

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.handlers: dict[str, Callable[..., object]] = {}

    def called(self, transport: Transport, command: Command, amf3: bool) -> None:
        """The server calls; it is answered where it has asked: on another connection the transaction means something else."""
        handler = self.handlers.get(command.name)
        if handler is not None:
            self._dispatcher.post(self._handle, handler, transport, command, amf3)
        elif command.name in _BANDWIDTH:
            # At once, not behind the handlers: the server takes the time.
            _reply(transport, "_result", command, _BANDWIDTH[command.name], amf3)
        elif command.transaction_id:
            text = f"this client has no method {command.name[:64]!r}"
            _reply(transport, "_error", command, status(StatusCode.CALL_FAILED, text), amf3)

    def _handle(
        self, handler: Callable[..., object], transport: Transport, command: Command, amf3: bool
    ) -> None:
        """Runs a handler in the dispatcher's greenlet and answers."""
        try:
            result = handler(*command.args)
        except Exception as error:
            _log.exception("handler of %r failed", command.name[:64])
            info = status(StatusCode.CALL_FAILED, f"{type(error).__name__}: {error}")
            _reply(transport, "_error", command, info, amf3)
        else:
            _reply(transport, "_result", command, result, amf3)


def _reply(transport: Transport, name: str, command: Command, value: Any, amf3: bool) -> None:
    if not command.transaction_id:
        return
    try:
        message = encode_command(name, command.transaction_id, None, value, amf3=amf3)
    except LocalProtocolError as error:
        text = f"the result of {command.name[:64]!r} has no AMF form: {error}"
        info = status(StatusCode.CALL_FAILED, text)
        message = encode_command("_error", command.transaction_id, None, info, amf3=amf3)
    try:
        transport.enqueue(message)
    except ConnectionClosed:
        pass  # Nobody waits for it any more.
