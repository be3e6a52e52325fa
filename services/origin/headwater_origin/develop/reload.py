"""`serve --reload`: imports applications anew when their files change, for development. Clients, objects and state stay."""

import importlib
import importlib.util
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import gevent
from headwater_bus.logs import get_log

from headwater_origin.application import Application
from headwater_origin.develop.check import check
from headwater_origin.develop.loading import ApplicationSpec, LoadError
from headwater_origin.develop.signatures import short_path

_log = get_log("origin")
_POLL_S = 0.5
_SETTLE_S = 0.1
"""A file that changed has been written when it looks the same twice at this distance."""

Stamp = tuple[int, int] | None
"""Time of the last change in ns and size of a file; None: it is not there."""
Replace = Callable[[str, type[Application]], None]
"""Puts a class in an application's place, by the application's name."""


class Reloader:
    """Watches the files of the applications' modules and of those next to them that they import."""

    def __init__(self, specs: Mapping[str, ApplicationSpec], replace: Replace) -> None:
        self._specs = specs
        self._replace = replace
        self._failed = False
        self._seen = self._stamps()

    def job(self) -> None:
        """Job: look for changes, for ever."""
        while True:
            gevent.sleep(_POLL_S)
            self.look()

    def look(self) -> bool:
        """One round of `job`; returns whether the applications were reloaded."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        while stamps != (later := self._settled()):
            stamps = later
        changed = [file for file in {**self._seen, **stamps} if self._seen.get(file) != stamps.get(file)]
        try:
            classes = self._import_anew(changed)
            self._failed = False
            for name, application in classes.items():
                self._replace(name, application)
        except LoadError as error:
            self._failed = True
            _log.error("reload failed, the old code goes on", error=str(error))
        else:
            names = " ".join(sorted(map(short_path, changed)))
            _log.info("reloaded", applications=" ".join(sorted(classes)), changed=names)
        # As they were before the import: what was written meanwhile is found in the next round.
        self._seen = {file: stamps.get(file, stamp) for file, stamp in self._stamps().items()}
        return not self._failed

    def _settled(self) -> dict[str, Stamp]:
        gevent.sleep(_SETTLE_S)
        return self._stamps()

    def _stamps(self) -> dict[str, Stamp]:
        """Every watched file. After a failure those next to them are watched too: a module may have been missing."""
        files = {
            file for module in _held(self._roots().values()).values() if (file := _source(module)) is not None
        }
        if self._failed:
            files.update(
                str(path) for folder in {Path(file).parent for file in files} for path in folder.glob("*.py")
            )
        return {file: _stamp(file) for file in sorted(files)}

    def _roots(self) -> "dict[str, _Root]":
        """By the applications' names."""
        return {
            name: root for name, spec in self._specs.items() if (root := _Root.of(spec.module)) is not None
        }

    def _import_anew(self, changed: list[str]) -> dict[str, type[Application]]:
        """From new modules, the classes of the applications that are where something has changed. Raises LoadError; then the
        modules are the old ones again."""
        roots = {name: root for name, root in self._roots().items() if any(map(root.has, changed))}
        old = _held(roots.values())
        for name in old:
            del sys.modules[name]
        for file in changed:
            # Compiled code is told from its source by seconds and size alone.
            with suppress(OSError):
                Path(importlib.util.cache_from_source(file)).unlink()
        importlib.invalidate_caches()
        linecache.checkcache()
        try:
            classes = {name: self._specs[name].load() for name in roots}
            for name, application in classes.items():
                problems = check(application, self._specs[name].given).problems
                if problems:
                    more = (
                        f" (and {len(problems) - 1} more: headwater-origin check)"
                        if len(problems) > 1
                        else ""
                    )
                    raise LoadError(f"{problems[0]}{more}")
        except LoadError:
            for name in {**_held(roots.values()), **old}:
                sys.modules.pop(name, None)
            sys.modules.update(old)
            raise
        return classes


def _held(roots: "Iterable[_Root]") -> dict[str, ModuleType]:
    """The modules that are theirs, by name."""
    roots = list(roots)
    return {
        name: module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and any(root.holds(name, module) for root in roots)
    }


def _stamp(file: str) -> Stamp:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _source(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) and file.endswith(".py") else None


class _Root:
    """The folder that an application's module is imported from, and which modules of it are the application's: all, or of
    installed ones those of the same distribution's package."""

    __slots__ = ("_folder", "_top")

    def __init__(self, folder: Path, top: str) -> None:
        self._folder, self._top = folder, top

    @classmethod
    def of(cls, name: str) -> "_Root | None":
        """Of a module that is imported. None when it has no file of its own."""
        module = sys.modules.get(name)
        file = _source(module) if module is not None else None
        if file is None:
            return None
        path = Path(file)
        above = name.count(".") + (path.name == "__init__.py")
        folder = path.parents[above]
        return cls(folder, name.partition(".")[0] if folder in _installed() else "")

    def has(self, file: str) -> bool:
        """Whether a file is in the folder."""
        return Path(file).is_relative_to(self._folder)

    def holds(self, name: str, module: ModuleType) -> bool:
        """Whether a module belongs to the application. This program's own never do."""
        top = name.partition(".")[0]
        if (
            top in ("__main__", "__mp_main__")
            or top.startswith("headwater_")
            or (self._top and top != self._top)
        ):
            return False
        expected = self._folder.joinpath(*name.split("."))
        file = _source(module)
        if file is not None:
            return Path(file) in (expected.with_name(f"{expected.name}.py"), expected / "__init__.py")
        # A package without __init__.py.
        return str(expected) in list(getattr(module, "__path__", ()))


def _installed() -> Iterator[Path]:
    """The folders of installed packages and of Python itself."""
    return (Path(folder) for folder in sysconfig.get_paths().values())
