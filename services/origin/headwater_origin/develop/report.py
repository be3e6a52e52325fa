"""What `headwater-origin check` prints."""

from rich.box import SIMPLE_HEAD
from rich.console import Group as Together
from rich.table import Table
from rich.text import Text

from headwater_origin.develop.check import Report, Row

_GAP = Text("")


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _rows(title: str, rows: list[Row], retry: bool = False) -> Table:
    table = _table(title, "where", *(["retry"] if retry else []))
    for row in rows:
        # Text: brackets in a signature are no markup.
        name = Text(f"{row.name}{row.signature}")
        table.add_row(name, Text(row.place), *(["yes" if row.retry else "no"] if retry else []))
    return table


def report_tables(report: Report) -> Together:
    """Hooks, methods, jobs and settings, each a table; those that are empty are left out."""
    parts: list[Text | Table] = [Text(f"{report.application} ({report.place})")]
    if report.hooks:
        parts += [_GAP, _rows("hook", report.hooks)]
    if report.methods:
        parts += [_GAP, _rows("method that clients call", report.methods, retry=True)]
    if report.jobs:
        parts += [_GAP, _rows("job", report.jobs)]
    settings = _table("setting", "value")
    for name, value in report.settings.items():
        settings.add_row(name, Text(str(value)))
    return Together(*parts, _GAP, settings)
