"""`headwater-origin check`: what an application class offers, and what in it cannot work. Nothing of it is run but its import."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Any

from headwater_bus.logs import get_log

from headwater_origin.application import Application, is_remote, runs_once
from headwater_origin.commands import COMMANDS
from headwater_origin.develop.signatures import described, function_of, misfit, own_parameters, place_of

_log = get_log("origin")
_HOOK_PREFIXES = ("on_", "shared_object_")
_SPREADS = ("shared_objects", "streams")
_SPREAD = ("together", "spread")
_ANY_NUMBER = inspect.Parameter.VAR_POSITIONAL
_TAKEN = frozenset({*COMMANDS, "connect"})
"""Names that no call of a client's gets through under."""
_FREE = frozenset({"on_connect"})
"""Hooks whose last arguments are the client's: how many it must give is for the application to say."""


@dataclass(frozen=True, slots=True)
class Row:
    """A hook, method or job of an application: how it is called, and where it stands. `retry`: of a `@remote` method."""

    name: str
    signature: str
    place: str
    retry: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` has found. `problems`: one line each."""

    application: str
    place: str
    hooks: list[Row] = field(default_factory=list)
    methods: list[Row] = field(default_factory=list)
    jobs: list[Row] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        report = asdict(self)
        for row in [*report["hooks"], *report["jobs"]]:
            del row["retry"]
        return report


def hooks_of_base() -> dict[str, object]:
    """The hooks there are, as the base class holds them."""
    return {
        name: value
        for name, value in vars(Application).items()
        if name.startswith(_HOOK_PREFIXES) and function_of(value) is not None
    }


def settings_of_base() -> dict[str, object]:
    """The class attributes that say what an application wants, with their defaults."""
    return {
        name: value
        for name, value in vars(Application).items()
        if not name.startswith("_") and isinstance(value, bool | str)
    }


def check(application: type[Application], name: str) -> Report:
    """Look at an application class; `name` is what the report calls it."""
    report = Report(name, place_of(application))
    own = _own_attributes(application)
    for what, found in own.items():
        problem = _attribute(what, found, report)
        if problem is not None:
            report.problems.append(f"{_where(found, report)}: {what} {problem}")
    _settings(application, own, report)
    _jobs(application, report)
    missing = ", ".join(sorted(getattr(application, "__abstractmethods__", ())))
    if missing:
        report.problems.append(f"{report.place}: {application.__name__} is abstract, it lacks {missing}")
    return report


def warn_of_problems(applications: Mapping[str, type[Application]]) -> None:
    """A log line for each problem of applications that are served all the same."""
    for name, application in applications.items():
        for problem in check(application, name).problems:
            _log.warning("application has a problem", application=name, problem=problem)


def _own_attributes(application: type[Application]) -> dict[str, object]:
    """What the class and those between it and Application define, the nearest first, in the order of the source."""
    own: dict[str, object] = {}
    for owner in reversed(application.__mro__):
        if owner is not object and not issubclass(Application, owner):
            own.update(vars(owner))
    return own


def _where(found: object, report: Report) -> str:
    function = function_of(found)
    return (place_of(function) if function is not None else "") or report.place or report.application


def _attribute(name: str, found: object, report: Report) -> str | None:
    """Note one attribute of the class in the report; returns what is wrong with it, or None."""
    hooks = hooks_of_base()
    function = function_of(found)
    remote = function is not None and is_remote(function)
    if name == "__init__":
        return _init_problem(found)
    if name in hooks:
        report.hooks.append(Row(name, described(found), _where(found, report)))
        return (
            "is a hook, and must not be @remote: clients could call it"
            if remote
            else _hook_problem(name, found)
        )
    if remote:
        assert function is not None
        report.methods.append(Row(name, described(found, 1), _where(found, report), not runs_once(function)))
        return _remote_problem(name, found)
    if name.startswith("_"):
        return None
    if hasattr(Application, name):
        return _hidden_problem(name, found)
    return _misspelled(name, found, hooks)


def _init_problem(found: object) -> str | None:
    problem = misfit(found, 1)
    return (
        None
        if problem is None
        else f"{problem}: the origin calls it with the group, for super().__init__(group)"
    )


def _hook_problem(name: str, found: object) -> str | None:
    base = vars(Application)[name]
    if isinstance(base, classmethod) and not isinstance(found, classmethod):
        return "must be a @classmethod: it is called before there is an instance"
    if isinstance(found, classmethod) and not isinstance(base, classmethod):
        return "is a @classmethod; expected a method, it is called on the scope's own object"
    parameters = own_parameters(base)
    count = sum(parameter.kind != _ANY_NUMBER for parameter in parameters)
    more = count < len(parameters)
    if name in _FREE:
        problem = _takes(found, count)
    else:
        problem = misfit(found, count, more)
    return None if problem is None else f"{problem}; it is called as {name}{_names(parameters)}"


def _takes(found: object, count: int) -> str | None:
    """Like `misfit`, where more arguments than `count` may be required."""
    problems = [misfit(found, number) for number in range(count, count + 33)]
    return None if None in problems else problems[0]


def _names(parameters: list[inspect.Parameter]) -> str:
    return f"({', '.join(str(parameter.replace(annotation=parameter.empty)) for parameter in parameters)})"


def _remote_problem(name: str, found: object) -> str | None:
    if name.startswith("_"):
        return "is @remote but begins with '_', so no client can call it; rename it"
    if name in _TAKEN:
        return "is @remote but the origin answers this command itself, so it would never be called; rename it"
    if hasattr(Application, name):
        return f"is @remote and hides Application.{name}; rename it"
    problem = _takes(found, 1)
    return None if problem is None else f"{problem}; a @remote method is called with (client, ...)"


def _hidden_problem(name: str, found: object) -> str | None:
    if name in settings_of_base():
        return None  # Looked at with the others.
    base = inspect.getattr_static(Application, name)
    if (function_of(found) is None) == (function_of(base) is None) and type(found) is type(base):
        return None  # Extended on purpose.
    return f"hides Application.{name}, which it is not; rename it"


def _misspelled(name: str, found: object, hooks: dict[str, object]) -> str | None:
    if function_of(found) is not None and (name.startswith(_HOOK_PREFIXES) or _snake(name) in hooks):
        return f"is no hook; did you mean {_nearest(name, hooks)}? A method of your own needs another name"
    if name.startswith("allow_"):
        return f"is no setting; did you mean {_nearest(name, settings_of_base())}?"
    return None


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _nearest(name: str, known: dict[str, object]) -> str:
    return get_close_matches(_snake(name), known, n=1, cutoff=0.0)[0]


def _settings(application: type[Application], own: dict[str, object], report: Report) -> None:
    for name, default in settings_of_base().items():
        value = inspect.getattr_static(application, name)
        report.settings[name] = value if isinstance(value, bool | str | int | float) else repr(value)
        if name in _SPREADS:
            problem = None if value in _SPREAD else "expected 'together' or 'spread'"
        elif isinstance(default, bool):
            problem = None if isinstance(value, bool) else "expected True or False"
        else:
            problem = None if isinstance(value, type(default)) else f"expected {type(default).__name__}"
        if problem is not None and name in own:
            report.problems.append(f"{report.place}: {name} = {value!r}: {problem}")


# Durable jobs: `self.schedule("name", ...)`


def _jobs(application: type[Application], report: Report) -> None:
    """Jobs whose method's name stands in the source. Where there is no source, nothing is said."""
    seen: set[str] = set()
    for owner in application.__mro__:
        if owner is object or issubclass(Application, owner):
            continue
        for name, count, line in _scheduled(owner):
            where = f"{place_of(owner).rpartition(':')[0]}:{line}"
            found = inspect.getattr_static(application, name, None)
            if found is None or function_of(found) is None:
                near = get_close_matches(name, _methods(application), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                report.problems.append(f"{where}: schedule({name!r}): there is no such method{hint}")
                continue
            problem = misfit(found, count) if count >= 0 else None
            if problem is not None:
                report.problems.append(f"{where}: schedule({name!r}): {problem}")
            if name not in seen:
                seen.add(name)
                report.jobs.append(Row(name, described(found), _where(found, report)))


def _methods(application: type[Application]) -> list[str]:
    return [name for name, found in _own_attributes(application).items() if function_of(found) is not None]


def _scheduled(owner: type) -> Iterator[tuple[str, int, int]]:
    """Method name, number of arguments (-1: not to be seen) and line of each `self.schedule("name", ...)` in a class."""
    try:
        lines, first = inspect.getsourcelines(owner)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        target, name = node.func.value, node.args[0]
        if node.func.attr != "schedule" or not (isinstance(target, ast.Name) and target.id == "self"):
            continue
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            yield name.value, -1 if starred else len(node.args) - 1, first + node.lineno - 1
