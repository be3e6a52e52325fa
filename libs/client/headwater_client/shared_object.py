"""Remote SharedObjects: slots that all clients of an object see alike (RTMP 1.0, section 7.1.3)."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from gevent.event import Event as Signal
from headwater_amf import UNDEFINED
from headwater_rtmp.errors import LocalProtocolError
from headwater_rtmp.shared_object import (
    Event,
    EventType,
    SharedObjectLimits,
    SharedObjectMessage,
    encode_shared_object,
)

from headwater_client.errors import ConnectionClosed, SharedObjectError, TimedOut
from headwater_client.object_state import ChangeEvent, HandlerCall, ObjectState
from headwater_client.transport import Transport

if TYPE_CHECKING:
    from headwater_client.net_connection import NetConnection

CLIENT_OBJECT_LIMITS = SharedObjectLimits(
    events=65_536, value_bytes=16 * 1024 * 1024, name_bytes=65_535, key_bytes=65_535
)
"""A server sends all contents in one message, so a client takes far more than a server would."""
_MOST_UNANSWERED = 4096
_EVENTS_PER_MESSAGE = 128
_BYTES_PER_MESSAGE = 64 * 1024
_MOST_NAME_BYTES = 65_535
"""Of an object, and of a slot."""
_ERRORS_KEPT = 100

ChangeHandler = Callable[[ChangeEvent], object]


class SharedObject(MutableMapping[str, Any]):
    """A mapping from slot names to values; made by `NetConnection.shared_object`.

    What is set or deleted here shows here at once, and everywhere when the server has committed it; the server's order
    decides. `flush` waits until it has answered. Setting None deletes, as in Flash. Values are those of AMF (see
    `headwater_amf`); a value that was changed in place has to be set again. Handlers run one after the other in a
    greenlet of the connection, and may wait.
    """

    def __init__(
        self,
        connection: "NetConnection",
        name: str,
        persistent: bool,
        known: "SharedObject | None" = None,
    ) -> None:
        if not 0 < len(name.encode()) <= _MOST_NAME_BYTES:
            text = f"expected 1 to {_MOST_NAME_BYTES} bytes of name"
            raise SharedObjectError(f"SharedObject {name[:64]!r} of {connection.url}", text=text)
        self._connection = connection
        self.name = name
        self.persistent = persistent
        self.errors: deque[SharedObjectError] = deque(maxlen=_ERRORS_KEPT)
        """What the server has refused, the last hundred."""
        self._unreported: SharedObjectError | None = None
        self._released = False
        if known is not None and not (persistent and known.persistent and known.name == name):
            raise ValueError(f"known: {known!r}, expected the persistent object {name!r}")
        self._state: ObjectState = ObjectState(connection.amf3, known._state if known is not None else None)
        self._answered = Signal()  # Something came from the server, or the connection ended.
        self._handlers: dict[str, Callable[..., object]] = {}
        self._change_handlers: list[ChangeHandler] = []

    def __repr__(self) -> str:
        return f"<SharedObject {self.name!r} version {self.version}: {self._state.contents!r}>"

    # The mapping

    def __getitem__(self, key: str) -> Any:
        return self._state.contents[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._state.contents))

    def __len__(self) -> int:
        return len(self._state.contents)

    def __contains__(self, key: object) -> bool:
        return key in self._state.contents

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a slot. Waits while the socket is full, or while thousands of requests are unanswered. Raises SharedObjectError
        for a value without AMF form, ConnectionClosed."""
        self._make_room()
        self._send([self._request(key, value)])

    def __delitem__(self, key: str) -> None:
        """Delete a slot. Raises KeyError when it does not show here."""
        self._make_room()
        if key not in self._state.contents:
            raise KeyError(key)
        self._send([self._state.remove(key)])

    def update(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:  # type: ignore[override]  # Without the overload for keys(): a Mapping says it.
        """Set several slots, in as few messages as possible: the server commits the slots of one message together."""
        items = list(dict(other, **more).items())
        while items:
            self._make_room()
            events: list[Event] = []
            size = 0
            try:
                while items and len(events) < _EVENTS_PER_MESSAGE and size < _BYTES_PER_MESSAGE:
                    event = self._request(*items.pop(0))
                    size += len(event.value or b"")
                    events.append(event)
            finally:
                if events:
                    self._send(events)

    def clear(self) -> None:
        """Delete all slots, at the server in one commit. (Event type 14, which Headwater and Flash Media Server know.)"""
        self._make_room()
        self._send([self._state.clear()])

    def _request(self, key: str, value: Any) -> Event:
        if not isinstance(key, str):
            raise TypeError(f"slot {key!r}: expected a str, got {type(key).__name__}")
        if len(key.encode()) > _MOST_NAME_BYTES:
            text = f"a name of {len(key.encode())} bytes, at most {_MOST_NAME_BYTES}"
            raise SharedObjectError(f"set {key[:64]!r}... of {self._named}", text=text)
        if value is None or value is UNDEFINED:
            return self._state.remove(key)
        try:
            return self._state.set(key, value)
        except LocalProtocolError as error:
            raise SharedObjectError(f"set {key!r} of {self._named}", text=str(error)) from error

    # State

    @property
    def synced(self) -> bool:
        """Whether the server has accepted the use of the object and sent its contents."""
        return self._state.synced

    @property
    def version(self) -> int:
        """The server's count of commits that changed something."""
        return self._state.version

    @property
    def unanswered(self) -> int:
        """How many changes of ours the server has not answered."""
        return self._state.unanswered

    def wait_synced(self, timeout_s: float | None = None) -> None:
        """Wait for the contents (default: the connection's timeout). Raises SharedObjectError when the server refuses the
        use, TimedOut, ConnectionClosed."""
        self._wait(lambda: self.synced, timeout_s, lambda: f"use of {self._named}: no contents")

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the server has answered every change of ours (default: the connection's timeout). Raises
        SharedObjectError with the first refusal since the last flush, TimedOut, ConnectionClosed."""
        self._wait(
            lambda: not self._state.unanswered,
            timeout_s,
            lambda: f"changes of {self._named}: {self._state.unanswered} not answered",
        )
        self._report()

    def _wait(self, done: Callable[[], bool], timeout_s: float | None, asked: Callable[[], str]) -> None:
        timeout_s = self._connection.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while not done():
            self._check_usable()
            self._report()
            self._answered.clear()
            if not self._answered.wait(max(0.0, deadline - time.monotonic())) and not done():
                raise TimedOut(f"{asked()} within {timeout_s:g} s")

    def _report(self) -> None:
        error, self._unreported = self._unreported, None
        if error is not None:
            raise error

    @property
    def _named(self) -> str:
        return f"SharedObject {self.name!r} of {self._connection.url}"

    def _check_usable(self) -> None:
        if self._released:
            raise SharedObjectError(self._named, text="it was closed here")
        if self._connection.closed.is_set():
            raise ConnectionClosed(
                f"{self._named}: the connection is closed: {self._connection.close_reason}"
            )

    # Sending

    def _make_room(self) -> None:
        self._check_usable()
        if self._state.unanswered >= _MOST_UNANSWERED:
            self._wait(
                lambda: self._state.unanswered < _MOST_UNANSWERED,
                None,
                lambda: f"changes of {self._named}: {self._state.unanswered} not answered",
            )
        self._connection.ready()

    def _send(self, events: list[Event]) -> None:
        """Queue events. Nothing may wait between a change of the state and this: requests go out in the state's order."""
        state = self._state
        state.sent()
        message = encode_shared_object(
            self.name, state.version, self.persistent, events, self._connection.amf3
        )
        self._connection.transport.enqueue(message)

    def use(self) -> None:
        """Ask the server for the object, and say which version we have; `NetConnection.shared_object` has done it. Of a
        persistent object the server may answer with what has changed since. Waits for nothing."""
        self._send([Event(EventType.USE)])

    def use_again(self, transport: Transport) -> None:
        """As `use`, on another connection, and ask again for what was not answered; called by the connection. Raises
        ConnectionClosed."""
        for events in self._state.begin_again():
            version = self.version if self.persistent else 0
            transport.enqueue(
                encode_shared_object(self.name, version, self.persistent, events, self._connection.amf3)
            )

    def send(self, handler: str, *args: Any) -> None:
        """Call a handler at every client that uses the object, this one included. It is not kept, and not answered."""
        self._make_room()
        try:
            event = self._state.handler_call(handler, args)
        except LocalProtocolError as error:
            raise SharedObjectError(f"send of {handler!r} to {self._named}", text=str(error)) from error
        self._send([event])

    def close(self) -> None:
        """Use the object no longer: nothing more is received. Unanswered changes are still carried out."""
        if self._released:
            return
        self._released = True
        self._connection.objects.forget(self)
        try:
            self._send([Event(EventType.RELEASE)])
        except ConnectionClosed:
            pass  # Then the server has released it.
        self._answered.set()

    def __enter__(self) -> "SharedObject":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Receiving

    def on(self, handler_name: str, function: Callable[..., object]) -> None:
        """Call `function(*args)` whenever a client sends to this handler; one function for each name."""
        self._handlers[handler_name] = function

    def on_change(self, function: ChangeHandler) -> None:
        """Call `function(event)` with a ChangeEvent for every change, by whomever."""
        self._change_handlers.append(function)

    def receive(self, message: SharedObjectMessage) -> None:
        """A message of the server about this object; called by the connection."""
        for outcome in self._state.receive(message):
            if isinstance(outcome, ChangeEvent):
                for function in self._change_handlers:
                    self._connection.dispatcher.post(function, outcome)
            elif isinstance(outcome, HandlerCall):
                handler = self._handlers.get(outcome.handler)
                if handler is not None:
                    self._connection.dispatcher.post(handler, *outcome.args)
            elif outcome.level == "error":
                error = SharedObjectError(self._named, {"level": outcome.level, "code": outcome.code})
                self.errors.append(error)
                self._unreported = self._unreported or error
        self._answered.set()

    def ended(self) -> None:
        """The connection is closed; called by it."""
        self._answered.set()
