"""What can be said of a function without calling it: how it reads, where it is, whether arguments fit, and where it failed."""

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

_NOT_THEIRS = sys.stdlib_module_names | {"gevent"}
_MODULES = re.compile(r"\b(?:\w+\.)+(?=[A-Za-z_])")


def function_of(found: object) -> Callable[..., Any] | None:
    """The function behind a class attribute as the class's dictionary holds it: a method, class method or static method."""
    if isinstance(found, classmethod | staticmethod):
        return function_of(found.__func__)
    return found if callable(found) and not isinstance(found, type) else None


def place_of(function: Callable[..., Any]) -> str:
    """`file.py:line` of a function or class, as seen from the working directory; empty where there is no source."""
    target = inspect.unwrap(function)
    try:
        if isinstance(target, type):
            file, line = inspect.getsourcefile(target), inspect.getsourcelines(target)[1]
        else:
            file, line = target.__code__.co_filename, target.__code__.co_firstlineno
    except (TypeError, OSError, AttributeError):
        return ""
    return f"{short_path(file or '?')}:{line}"


def short_path(file: str) -> str:
    """As seen from the working directory, where it is in there."""
    near = os.path.relpath(file)
    return file if near.startswith("..") else near


def raised_at(error: BaseException) -> tuple[str, int]:
    """File and line where something was raised: the innermost that is the application's, for it is there that it can be put
    right, or else the innermost of all."""
    frames = [
        (frame.f_code.co_filename, line, frame.f_globals.get("__name__", ""))
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    theirs = [
        (file, line)
        for file, line, module in frames
        if not module.startswith("headwater_") and module.partition(".")[0] not in _NOT_THEIRS
    ]
    innermost = [(file, line) for file, line, _ in frames[-1:]]
    return (theirs or innermost or [("?", 0)])[-1]


def own_parameters(found: object) -> list[inspect.Parameter]:
    """The parameters that a caller fills: without `self` and `cls`. Raises ValueError where there is no signature."""
    function = function_of(found)
    if function is None:
        raise ValueError("no function")
    parameters = list(inspect.signature(function).parameters.values())
    if isinstance(found, staticmethod) or (parameters and parameters[0].kind == _ALL):
        return parameters
    return parameters[1:]


_ALL = inspect.Parameter.VAR_POSITIONAL


def misfit(found: object, count: int, more: bool = False) -> str | None:
    """Why a class attribute cannot be called with so many arguments, and with `more`: with any number more, or None."""
    function = function_of(found)
    if function is None:
        return f"is {type(found).__name__}, not a method"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "is async: the origin runs plain methods, which may wait (gevent)"
    if inspect.isgeneratorfunction(function):
        return "contains yield: it would never run"
    try:
        parameters = own_parameters(found)
        signature = inspect.Signature(parameters)
        if not isinstance(found, staticmethod) and not inspect.signature(function).parameters:
            return "lacks its first parameter, self"
    except ValueError:
        return None  # Written in C: it says nothing of itself.
    try:
        signature.bind(*range(count))
    except TypeError as error:
        return str(error)
    if more and not any(parameter.kind == _ALL for parameter in parameters):
        return "lacks *args for what else comes"
    return None


def described(found: object, skip: int = 0) -> str:
    """How a method is called, `(text: str) -> int`, without `self` and the next `skip` parameters."""
    function = function_of(found)
    try:
        parameters = own_parameters(found)
        if function is None:
            return ""
        signature = inspect.signature(function)
    except ValueError:
        return "(...)"
    while skip and parameters and parameters[0].kind != _ALL:
        parameters, skip = parameters[1:], skip - 1
    plain = [parameter.replace(annotation=_plain(parameter.annotation)) for parameter in parameters]
    return str(signature.replace(parameters=plain, return_annotation=_plain(signature.return_annotation)))


def _plain(annotation: object) -> object:
    """An annotation without modules, that reads the same whether it is in quotes (or `from __future__ import annotations`
    holds) or not."""
    if annotation is inspect.Signature.empty:
        return annotation
    text = annotation.strip("'\"") if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _Text(_MODULES.sub("", text))


class _Text(str):
    """An annotation in its own words."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
