"""What the command line shows: progress on a terminal, one line otherwise, objects as tables or JSON."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from headwater_amf import Date, EcmaArray, Undefined, Unsupported
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from headwater_client.flv_files import Progress, ProgressHandler
from headwater_client.object_state import ChangeEvent
from headwater_client.probing import Tried


def amount(count: float) -> str:
    """Bytes with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def summary(progress: Progress) -> str:
    """Media time, messages, bytes, and the bitrate over the media time."""
    seconds = progress.media_ms / 1000
    rate = f", {progress.payload_bytes * 8 / seconds / 1000:.0f} kbit/s" if seconds else ""
    return f"{seconds:.1f} s, {progress.messages} messages, {amount(progress.payload_bytes)}{rate}"


@contextmanager
def shown_progress(console: Console, label: str) -> Iterator[ProgressHandler | None]:
    """A line that follows the progress, on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[seen]}"))
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(label, total=None, seen="")

        def show(progress: Progress) -> None:
            bar.update(task, seen=summary(progress), refresh=True)

        yield show


def plain(value: Any) -> Any:
    """A value of AMF as JSON has it; what JSON has no form for becomes text."""
    if isinstance(value, Undefined | Unsupported):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, EcmaArray) and value.dense:
        return {**{str(index): plain(item) for index, item in enumerate(value.dense)}, **plain(dict(value))}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Date):
        try:
            return value.datetime().isoformat()
        except (OverflowError, ValueError):
            return str(value.ms)
    if value is None or isinstance(value, str | bool | int):
        return value
    return value.hex() if isinstance(value, bytes) else repr(value)


def as_json(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(plain(value), ensure_ascii=False)


def slots_table(slots: dict[str, Any]) -> Table:
    """The contents of a SharedObject."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("slot", overflow="fold")
    table.add_column("value", overflow="fold")
    for key in sorted(slots):
        table.add_row(Text(key), Text(as_json(slots[key])))
    return table


def tried_table(found: Sequence[Tried]) -> Table:
    """The ways to a server, and what came of each."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("mode")
    table.add_column("port", justify="right")
    table.add_column("result")
    table.add_column("ms", justify="right")
    table.add_column("what was said", overflow="fold")
    for tried in found:
        result = "ok" if tried.accepted else "refused" if tried.works else "no"
        table.add_row(tried.scheme, str(tried.port), result, f"{tried.took_s * 1000:.0f}", Text(tried.said))
    return table


def change_line(event: ChangeEvent, json_lines: bool) -> str:
    """A change as one line."""
    if json_lines:
        return as_json({"kind": str(event.kind), "key": event.key, "old": event.old, "new": event.new})
    if event.key is None:
        return str(event.kind)
    return f"{event.kind} {event.key}: {as_json(event.old)} -> {as_json(event.new)}"
