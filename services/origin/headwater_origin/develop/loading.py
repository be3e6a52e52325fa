"""`--app NAME=MODULE:CLASS`: from the command line to application classes."""

import importlib
import os
import re
import sys
from dataclasses import dataclass

from headwater_origin.application import Application
from headwater_origin.develop.signatures import raised_at

_SPEC = re.compile(r"(?:(?P<name>[A-Za-z0-9_.~\-]+)=)?(?P<module>[A-Za-z0-9_.]+):(?P<class>[A-Za-z0-9_]+)")


class LoadError(Exception):
    """An application that cannot be loaded; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class ApplicationSpec:
    """Where an application is found. `name` is its part of connect URLs, empty where none was given; `given`: as it stands on
    the command line, for error texts."""

    name: str
    module: str
    class_name: str
    given: str

    def load(self) -> type[Application]:
        """Import the module, if it is not yet, and find the class. Raises LoadError."""
        try:
            module = importlib.import_module(self.module)
        except (Exception, SystemExit) as error:
            raise LoadError(f"{self.given}: {_why(self.module, error)}") from error
        application = getattr(module, self.class_name, None)
        if not (isinstance(application, type) and issubclass(application, Application)):
            seen = "nothing" if application is None else repr(application)
            raise LoadError(
                f"{self.given}: expected a subclass of headwater_origin.Application, {self.class_name} is {seen}"
            )
        return application


def parse_spec(given: str) -> ApplicationSpec:
    """`MODULE:CLASS`, or `NAME=MODULE:CLASS`. Raises LoadError."""
    found = _SPEC.fullmatch(given)
    if found is None:
        raise LoadError(f"{given}: expected MODULE:CLASS or NAME=MODULE:CLASS, such as chat=apps.chat:Chat")
    return ApplicationSpec(found["name"] or "", found["module"], found["class"], given)


def parse_specs(given: tuple[str, ...]) -> dict[str, ApplicationSpec]:
    """The values of `--app` by the applications' names. Raises LoadError."""
    specs: dict[str, ApplicationSpec] = {}
    for text in given:
        found = _SPEC.fullmatch(text)
        if found is None or not found["name"]:
            raise LoadError(f"--app {text}: expected NAME=MODULE:CLASS, such as chat=apps.chat:Chat")
        if found["name"] in specs:
            raise LoadError(f"--app {text}: {found['name']!r} is given twice")
        specs[found["name"]] = ApplicationSpec(
            found["name"], found["module"], found["class"], f"--app {text}"
        )
    return specs


def look_here_first() -> None:
    """Have modules looked for in the working directory first, as `python -m` does."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def load_applications(given: tuple[str, ...]) -> dict[str, type[Application]]:
    """Application classes by name, for the values of `--app`. Raises LoadError."""
    specs = parse_specs(given)
    look_here_first()
    return {name: spec.load() for name, spec in specs.items()}


def _why(module_name: str, error: BaseException) -> str:
    """Why a module cannot be imported, and where in it, in one line."""
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if missing and f"{module_name}.".startswith(f"{missing}."):
        if module_name.endswith(".py"):
            return f"a module is named without its .py: {module_name.removesuffix('.py')}"
        return f"{error}; run it where the module is, or install it"
    return f"importing {module_name} {failed_at(error)}"


def failed_at(error: BaseException) -> str:
    """Where in an application something was raised, and what, in one line."""
    if isinstance(error, SyntaxError):
        place, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        file, line = raised_at(error)
        place, text = f"{file}:{line}", str(error)
    return " ".join(f"failed at {place}: {type(error).__name__}: {text}".split())
