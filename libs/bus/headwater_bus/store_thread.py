"""The thread in which a service calls its store, one call at a time: the event loop never waits for a disk or a server.

The thread is never ended: it is left waiting when the process ends. One that is just ending when the interpreter goes would abort
the process (seen with Redis, whose client gives the thread a loop of its own).
"""

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from gevent.threadpool import ThreadPool

_CLOSE_S = 0.5
_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")


class StoreThread:
    """See the module."""

    def __init__(self) -> None:
        self._pool = ThreadPool(1)

    def call(self, function: Callable[_Given, _Got], *args: _Given.args, **kwargs: _Given.kwargs) -> _Got:
        """Run something in the thread, and wait for it. Raises what it raises."""
        outcome: _Outcome[_Got] = _Outcome()
        self._pool.spawn(outcome.run, lambda: function(*args, **kwargs)).get()
        return outcome.get()

    def end_with(self, function: Callable[[], None]) -> None:
        """Run a last thing in the thread, without waiting for it for long."""
        outcome: _Outcome[None] = _Outcome()
        self._pool.spawn(outcome.run, function).wait(timeout=_CLOSE_S)


class _Outcome(Generic[_Got]):
    """What a call in the thread has given: gevent would print what it raises."""

    __slots__ = ("_error", "_result")

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._result: list[_Got] = []

    def run(self, function: Callable[[], _Got]) -> None:
        """Call it, in the thread."""
        try:
            self._result.append(function())
        except Exception as error:
            self._error = error

    def get(self) -> _Got:
        """The result. Raises what the call has raised."""
        if self._error is not None:
            raise self._error
        return self._result[0]
