"""Calls that wait for their answers."""

from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import AsyncResult
from headwater_rtmp.message import Message

from headwater_client.errors import ConnectionClosed, TimedOut
from headwater_client.transport import Transport

CONNECT_TRANSACTION = 1


@dataclass(slots=True)
class Call:
    """`answer` becomes the value, and what carried it. `once`: it is not sent again on another connection."""

    name: str
    message: Message | None = None
    once: bool = False
    answer: "AsyncResult[tuple[Transport, Any]]" = field(default_factory=AsyncResult)


class Calls:
    """By transaction id, in the order in which they were made. Connect is one of them."""

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._last = CONNECT_TRANSACTION
        self._waiting: dict[float, Call] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def next_transaction(self) -> float:
        """A new id. They are never used again, on whatever connection."""
        self._last += 1
        return float(self._last)

    def add(self, transaction: float, call: Call) -> Call:
        """Wait for an answer."""
        self._waiting[transaction] = call
        return call

    def __contains__(self, transaction: float) -> bool:
        return transaction in self._waiting

    def wait(self, transaction: float, call: Call, timeout_s: float, at: str) -> tuple[Transport, Any]:
        """Wait for the answer to a call that was queued just now; returns what carried it, too. Raises CallFailed, TimedOut,
        ConnectionClosed."""
        self.add(transaction, call)
        try:
            answer = call.answer.get(timeout=timeout_s)
            assert answer is not None
            return answer
        except gevent.Timeout:
            raise TimedOut(f"call of {call.name!r} at {at}: no answer within {timeout_s:g} s") from None
        finally:
            self.pop(transaction)

    def pop(self, transaction: float) -> Call | None:
        """The one that is answered, or waited for no longer."""
        return self._waiting.pop(transaction, None)

    def to_repeat(self) -> list[Message]:
        """What is to be sent on a new connection."""
        return [call.message for call in self._waiting.values() if call.message is not None]

    def fail_connect(self, reason: str) -> None:
        """The connection has ended before it was one."""
        call = self.pop(CONNECT_TRANSACTION)
        if call is not None:
            call.answer.set_exception(ConnectionClosed(reason))

    def fail(self, at: str, reason: str, only_once: bool = False) -> None:
        """The connection is closed: tell those who wait, or only those whose calls are not repeated."""
        for transaction, call in list(self._waiting.items()):
            if call.once or not only_once:
                del self._waiting[transaction]
                call.answer.set_exception(
                    ConnectionClosed(f"{call.name!r} at {at}: the connection was closed: {reason}")
                )
