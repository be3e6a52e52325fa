"""Runs application code: its answers become decisions, its exceptions become refusals and one log line."""

import inspect
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.logs import get_log

from headwater_origin.errors import CallError, Reject

if TYPE_CHECKING:
    from headwater_origin.group import Group

_log = get_log("origin")
FAILURES = (Exception, gevent.Timeout, SystemExit)
"""What application code may raise without harm to anybody else; gevent.Timeout is none of Exception's."""


def failed(group: "Group", what: str, error: BaseException) -> None:
    """Count and log an exception of application code: what it was and the innermost place, in one line."""
    group.counters.handler_errors += 1
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
    _log.error("application failed", group=group.name, what=what, error=repr(error), at=place)


def allowed(group: "Group", hook: str, *args: Any) -> str | None:
    """Ask a hook that may refuse. Returns why it does, or None when it allows."""
    try:
        answer = getattr(group.application, hook)(*args)
    except Reject as reject:
        return reject.reason
    except FAILURES as error:
        failed(group, hook, error)
        return "the application failed"
    if answer is False:
        return "refused by the application"
    return answer.reason if isinstance(answer, Reject) else None


def tell(group: "Group", hook: str, *args: Any) -> None:
    """Run a hook whose answer does not matter."""
    try:
        getattr(group.application, hook)(*args)
    except FAILURES as error:
        failed(group, hook, error)


def call_remote(group: "Group", method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run a `@remote` method. Raises CallError, whatever went wrong."""
    problem = arguments_problem(method, args)
    if problem is not None:
        raise CallError("NetConnection.Call.BadArguments", problem)
    try:
        return method(*args)
    except CallError:
        raise
    except Reject as reject:
        raise CallError("NetConnection.Call.Failed", reject.reason) from None
    except FAILURES as error:
        failed(group, method.__name__, error)
        raise CallError("NetConnection.Call.Failed", "the application failed") from None


def arguments_problem(method: Callable[..., Any], args: tuple[Any, ...]) -> str | None:
    """Why a method cannot take these arguments, or None."""
    function = getattr(method, "__func__", None)
    try:
        if function is None:
            inspect.signature(method).bind(*args)
        else:
            _signature(function).bind(None, *args)
    except TypeError as error:
        return str(error)
    return None


@lru_cache(maxsize=4096)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
