"""`--app NAME=MODULE:CLASS`: from the command line to application classes."""

import importlib
import os
import re
import sys
import traceback

from headwater_origin.application import Application

_SPEC = re.compile(r"([A-Za-z0-9_.~\-]+)=([A-Za-z0-9_.]+):([A-Za-z0-9_]+)")


class LoadError(Exception):
    """An application that cannot be loaded; the text is for the operator."""


def load_applications(specs: tuple[str, ...]) -> dict[str, type[Application]]:
    """Application classes by name. Modules are looked for in the working directory first. Raises LoadError."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    applications: dict[str, type[Application]] = {}
    for spec in specs:
        name, application = _load(spec)
        if name in applications:
            raise LoadError(f"--app {spec}: {name!r} is given twice")
        applications[name] = application
    return applications


def _load(spec: str) -> tuple[str, type[Application]]:
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise LoadError(f"--app {spec}: expected NAME=MODULE:CLASS, such as chat=apps.chat:Chat")
    name, module_name, class_name = found.groups()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise LoadError(f"--app {spec}: {_why(module_name, error)}") from error
    application = getattr(module, class_name, None)
    if not (isinstance(application, type) and issubclass(application, Application)):
        seen = "nothing" if application is None else repr(application)
        raise LoadError(
            f"--app {spec}: expected a subclass of headwater_origin.Application, {class_name} is {seen}"
        )
    return name, application


def _why(module_name: str, error: BaseException) -> str:
    """Why a module cannot be imported, and where in it, in one line."""
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return f"{error}; run it where the module is, or install it"
    if isinstance(error, SyntaxError):
        place, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place, text = f"{frame.filename}:{frame.lineno}", str(error)
    return f"importing {module_name} failed at {place}: {type(error).__name__}: {text}"
