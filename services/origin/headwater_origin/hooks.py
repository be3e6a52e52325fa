"""Runs application code: its answers become decisions, its exceptions become refusals and one log line."""

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gevent
from headwater_bus.logs import get_log

from headwater_origin.client import Client
from headwater_origin.develop.signatures import raised_at
from headwater_origin.errors import CallError, GroupLost, ObjectUnavailable, Reject, StoreUnavailable
from headwater_origin.transaction import transaction

if TYPE_CHECKING:
    from headwater_origin.group import Group

_log = get_log("origin")
FAILURES = (Exception, gevent.Timeout, SystemExit)
"""What application code may raise without harm to anybody else; gevent.Timeout is none of Exception's."""


def failed(group: "Group", what: str, error: BaseException) -> None:
    """Count and log an exception of application code: what it was and where, in one line."""
    if group.stopped and isinstance(error, (ObjectUnavailable, StoreUnavailable)):
        # What it needed has stopped as well: that is no fault of its.
        _log.info("application stopped half-way", group=group.name, what=what, error=str(error))
        return
    group.counters.handler_errors += 1
    file, number = raised_at(error)
    place = f"{file.rpartition('/')[2]}:{number}"
    _log.error("application failed", group=group.name, what=what, error=repr(error), at=place)


def refusal(group: "Group", hook: str, *args: Any) -> Reject | None:
    """Ask a hook that may refuse. Returns why it does, or None when it allows. Without an application nothing is refused: the
    guests' homes have asked. Raises GroupLost: its next owner asks."""
    if group.application is None:
        return None
    try:
        answer = run(group, getattr(group.application, hook), args)
    except Reject as reject:
        return reject
    except GroupLost:
        raise
    except (ObjectUnavailable, StoreUnavailable) as away:
        return Reject(str(away))
    except FAILURES as error:
        failed(group, hook, error)
        return Reject("the application failed")
    if answer is False:
        return Reject("refused by the application")
    return answer if isinstance(answer, Reject) else None


def allowed(group: "Group", hook: str, *args: Any) -> str | None:
    """`refusal`, as its text."""
    refused = refusal(group, hook, *args)
    return None if refused is None else refused.reason


def tell(group: "Group", hook: str, *args: Any) -> None:
    """Run a hook whose answer does not matter."""
    try:
        run(group, getattr(group.application, hook), args, must=True)
    except GroupLost:
        pass  # Its next owner runs it.
    except FAILURES as error:
        failed(group, hook, error)


def run(group: "Group", function: Callable[..., Any], args: tuple[Any, ...], must: bool = False) -> Any:
    """Run application code as one transaction; raises what it raises. `must`: it is carried out while the store is away, too."""
    session = args[0]._session if args and isinstance(args[0], Client) else None
    with transaction(group, session, must):
        return function(*args)


def call_remote(group: "Group", method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run a `@remote` method. Raises CallError, whatever went wrong, or GroupLost."""
    problem = arguments_problem(method, args)
    if problem is not None:
        raise CallError("NetConnection.Call.BadArguments", problem)
    try:
        return run(group, method, args)
    except (CallError, GroupLost):
        raise
    except Reject as reject:
        raise CallError("NetConnection.Call.Failed", reject.reason) from None
    except (ObjectUnavailable, StoreUnavailable) as away:
        raise CallError("NetConnection.Call.Failed", str(away)) from None
    except FAILURES as error:
        failed(group, getattr(method, "__name__", repr(method)), error)
        raise CallError("NetConnection.Call.Failed", "the application failed") from None


def arguments_problem(method: Callable[..., Any], args: tuple[Any, ...]) -> str | None:
    """Why a method cannot take these arguments, or None: it can, or does not say."""
    function = getattr(method, "__func__", None)
    try:
        if function is None:
            inspect.signature(method).bind(*args)
        else:
            least, most = _count(function)
            if not least <= len(args) + 1 <= most:
                _signature(function).bind(None, *args)
    except TypeError as error:
        return str(error)
    except ValueError:
        return None  # Written in C: it says nothing of itself.
    return None


@lru_cache(maxsize=4096)
def _count(function: Callable[..., Any]) -> tuple[int, float]:
    """How many arguments a function takes by position, at least and at most; at most 0 where that is not all that it needs."""
    least, most = 0, 0.0
    for parameter in _signature(function).parameters.values():
        needed = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = math.inf
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            least, most = least + needed, most + 1
        elif needed:
            return 0, 0.0
    return least, most


@lru_cache(maxsize=4096)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
