"""`on_app_start` and `on_app_stop` of the application classes that an origin process serves: once for each class."""

from collections.abc import Callable, Iterable

from headwater_bus.logs import get_log

from headwater_origin import hooks
from headwater_origin.application import Application
from headwater_origin.counters import Counters
from headwater_origin.develop.loading import LoadError, failed_at

_log = get_log("origin")


def start(classes: Iterable[type[Application]]) -> None:
    """The process begins to serve them. Raises LoadError."""
    for application in dict.fromkeys(classes):
        try:
            application.on_app_start()
        except hooks.FAILURES as error:
            raise LoadError(f"{application.__name__}.on_app_start {failed_at(error)}") from error


def stop(classes: Iterable[type[Application]], counters: Counters) -> None:
    """The process ends."""
    for application in dict.fromkeys(classes):
        _tell(application, application.on_app_stop, counters)


def exchange(old: type[Application], new: type[Application], counters: Counters) -> None:
    """The process serves another class in place of one."""
    _tell(new, new.on_app_start, counters)
    _tell(old, old.on_app_stop, counters)


def _tell(application: type[Application], step: Callable[[], None], counters: Counters) -> None:
    try:
        step()
    except hooks.FAILURES as error:
        counters.handler_errors += 1
        _log.error("application failed", what=f"{application.__name__}.{step.__name__}", error=repr(error))
