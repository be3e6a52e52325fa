"""Calls of application code to one client, and the client's answers (RTMP 1.0, section 7.2.1.2)."""

from typing import TYPE_CHECKING, Any

from gevent import getcurrent
from gevent.event import AsyncResult
from headwater_rtmp.command import Command, encode_command

from headwater_origin.errors import (
    ClientCallError,
    ClientCallFailed,
    ClientCallTimeout,
    ClientGone,
    SessionLost,
)

if TYPE_CHECKING:
    from headwater_origin.session import Session


class ClientCalls:
    """Of one session. `first`: transaction ids are above it."""

    __slots__ = ("_last_transaction", "_session", "_waiting")

    def __init__(self, session: "Session", first: int) -> None:
        self._session, self._last_transaction = session, first
        self._waiting: dict[float, tuple[str, AsyncResult[Any], bool]] = {}
        """By transaction id: name, answer, and whether the handler of a message of this client waits for it."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def last_transaction(self) -> int:
        """The greatest transaction id that was used."""
        return self._last_transaction

    def call(self, name: str, args: tuple[Any, ...], timeout_s: float) -> Any:
        """Call a method of the client and wait for its result. Raises ClientCallError."""
        session = self._session
        own = session.handler is getcurrent()
        if session.absent and own:
            raise SessionLost(f"call of {name!r}: the link to the client is lost")
        if session.closed or session.absent:
            raise ClientGone(f"call of {name!r}: client {session.session_id} is gone")
        if not session.accepted:
            raise ClientCallError(f"call of {name!r}: a client can be called when on_connect has returned")
        limit = session.group.config.calls_pending
        if len(self._waiting) >= limit:
            raise ClientCallTimeout(
                f"call of {name!r}: {limit} calls to the client wait for an answer already"
            )
        self._last_transaction += 1
        transaction = self._last_transaction
        answer: AsyncResult[Any] = AsyncResult()
        self._waiting[transaction] = (name, answer, own)
        try:
            session.ask(encode_command(name, transaction, None, *args, amf3=session.amf3))
            # Not get(timeout): a gevent.Timeout of the application's own must pass through.
            answer.wait(timeout=timeout_s)
            if not answer.ready():
                raise ClientCallTimeout(f"call of {name!r}: no answer within {timeout_s} s")
            return answer.get(block=False)
        finally:
            self._waiting.pop(transaction, None)

    def asked_for(self, command: Command) -> bool:
        """Whether a command answers a call that waits for it."""
        return command.is_answer and command.transaction_id in self._waiting

    def answered(self, command: Command) -> None:
        """`_result` or `_error` of the client: wakes the call that waits for it."""
        name, answer, _ = self._waiting.pop(command.transaction_id, (None, None, False))
        if answer is None:
            return
        value = command.args[0] if command.args else None
        if command.name == "_result":
            answer.set(value)
        else:
            answer.set_exception(ClientCallFailed(str(name), value))

    def client_left(self, reason: str) -> None:
        """The calls that wait fail."""
        waiting, self._waiting = self._waiting, {}
        for name, answer, _ in waiting.values():
            answer.set_exception(ClientGone(f"call of {name!r}: the client left: {reason}"))

    def link_lost(self) -> None:
        """The client is there still, but no answer comes here any more. A message of its own whose handler waits for one is going
        to be handled again, over another link or at another origin; whoever else has called may do so again."""
        waiting, self._waiting = self._waiting, {}
        for name, answer, own in waiting.values():
            text = f"call of {name!r}: the link to the client is lost"
            answer.set_exception(SessionLost(text) if own else ClientGone(f"{text}; it may come back"))
