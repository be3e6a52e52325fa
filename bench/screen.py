"""What every benchmark shows and how it ends: progress, one line for what went wrong, the exit status."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.errors import BenchError

_WIDTH = 220


class Screen:
    """The lines that show how far a benchmark of `total` measurements is. Use as a context manager."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._whole = self._progress.add_task("measurements", total=total)
        self._step = self._progress.add_task("", total=1)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, text: str, total: float) -> Callable[[float], None]:
        """A new step; call the result with how far it is."""
        self._progress.reset(self._step, total=total, description=text)
        return lambda done: self._progress.update(self._step, completed=min(round(done), total))

    def next(self) -> None:
        """A measurement is done."""
        self._progress.advance(self._whole)


def wide_console() -> Console:
    """Standard output; in a pipe or a file as wide as the tables are."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    return console


@contextlib.contextmanager
def ends_well() -> Iterator[None]:
    """A benchmark's command runs inside: SIGTERM is like Ctrl-C, and what ends it early becomes a line and an exit status."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except BenchError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1 if error.failed else 2) from error
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        raise SystemExit(130) from None


def _terminated(number: int, frame: object) -> None:
    raise KeyboardInterrupt
