"""Structured logs on standard output: one line an event, as text or as a JSON object."""

import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
_ROOT = "headwater"


_MAX_SHOWN = 1000
"""Characters of a field or an event's text; what is over that is cut."""
_RESERVED = ("time", "level", "service", "node", "part", "event")


class _Formatter(logging.Formatter):
    def __init__(self, service: str, node_id: str, as_json: bool) -> None:
        super().__init__()
        self._service, self._node_id, self._as_json = service, node_id, as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        text = record.getMessage()
        if self._as_json:
            head = {
                "time": stamp,
                "level": record.levelname.lower(),
                "service": self._service,
                "node": self._node_id,
                "part": record.name.removeprefix(_ROOT + "."),
                "event": _cut(text),
            }
            return _json(head, fields)
        shown = "".join(f" {_plain(key)}={_shown(value)}" for key, value in fields.items())
        return f"{stamp} {record.levelname.lower():7} {self._node_id} {_plain(text)}{shown}"


def _json(head: dict[str, Any], fields: dict[str, Any]) -> str:
    """One line. A field named like one of the head's is written with an underscore behind it."""
    named = {f"{key}_" if key in _RESERVED else key: value for key, value in fields.items()}
    simple = {
        key: value if value is None or isinstance(value, (bool, int)) else _cut(_text(value))
        for key, value in named.items()
    }
    numbers = {
        key: value for key, value in named.items() if isinstance(value, float) and math.isfinite(value)
    }
    return json.dumps({**head, **simple, **numbers})


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}... ({len(text)} characters)"


def _plain(text: str) -> str:
    """An event's text; it may name what a client sent."""
    text = _cut(text)
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _shown(value: Any) -> str:
    text = _cut(_text(value))
    return (
        json.dumps(text)
        if not text or any(c.isspace() or not c.isprintable() or c in '"=' for c in text)
        else text
    )


class RateLimit:
    """Lets one event of a name pass in `interval_s`, so that whoever causes it cannot fill the log."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._passed: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._shown: dict[str, int] = {}

    def passes(self, name: str) -> bool:
        """Whether this one is to be logged. Names are remembered: use few."""
        now = self._clock()
        if now - self._passed.get(name, -math.inf) < self._interval_s:
            self._held[name] = self._held.get(name, 0) + 1
            return False
        self._passed[name] = now
        self._shown[name] = self._held.pop(name, 0)
        return True

    def suppressed(self, name: str) -> int:
        """How many were held back before the one that passed last."""
        return self._shown.get(name, 0)


class Log:
    """A named log. Every method takes the event's text and its fields."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{name}")

    def debug(self, text: str, **fields: Any) -> None:
        """Detail for whoever looks for a fault."""
        self._logger.debug("%s", text, extra={"fields": fields})

    def info(self, text: str, **fields: Any) -> None:
        """Ordinary events."""
        self._logger.info("%s", text, extra={"fields": fields})

    def warning(self, text: str, **fields: Any) -> None:
        """Something went wrong and was dealt with."""
        self._logger.warning("%s", text, extra={"fields": fields})

    def error(self, text: str, **fields: Any) -> None:
        """Something went wrong and somebody should look."""
        self._logger.error("%s", text, extra={"fields": fields})


def get_log(name: str) -> Log:
    """The log of a part of a service."""
    return Log(name)


def configure(service: str, node_id: str, *, as_json: bool = False, level: str = "info") -> None:
    """Send all logs of this process to standard output. When that is closed, the process goes on without."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = _Handler(sys.stdout)
    handler.setFormatter(_Formatter(service, node_id, as_json))
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class _Handler(logging.StreamHandler[Any]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nobody reads the log any more; a traceback for each line helps nobody."""
