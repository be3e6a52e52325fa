"""Structured logs on standard output: one line an event, as text or as a JSON object."""

import json
import logging
import sys
import time
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
_ROOT = "headwater"


class _Formatter(logging.Formatter):
    def __init__(self, service: str, node_id: str, as_json: bool) -> None:
        super().__init__()
        self._service, self._node_id, self._as_json = service, node_id, as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        text = record.getMessage()
        if self._as_json:
            return json.dumps(
                {
                    "time": stamp,
                    "level": record.levelname.lower(),
                    "service": self._service,
                    "node": self._node_id,
                    "part": record.name.removeprefix(_ROOT + "."),
                    "event": text,
                    **fields,
                },
                default=str,
            )
        shown = "".join(f" {key}={_shown(value)}" for key, value in fields.items())
        return f"{stamp} {record.levelname.lower():7} {self._node_id} {text}{shown}"


def _shown(value: Any) -> str:
    text = str(value)
    return (
        json.dumps(text)
        if not text or any(c.isspace() or not c.isprintable() or c in '"=' for c in text)
        else text
    )


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
    """Send all logs of this process to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter(service, node_id, as_json))
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
