"""Commands that follow what they have asked for: a progress bar, and Ctrl-C."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click
import gevent
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headwater_bus.options import console


def interrupt_here() -> None:
    """From now on SIGINT is a KeyboardInterrupt in this greenlet, which must be the main one: so bars and live tables give the
    terminal back. Where somebody handles it already, or it is ignored, it stays so. Python's own handler raises it in whatever
    runs, mostly gevent's hub, which prints it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        return
    here = gevent.getcurrent()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if gevent.getcurrent() is here:
            raise KeyboardInterrupt
        gevent.get_hub().loop.run_callback(here.throw, KeyboardInterrupt)

    signal.signal(signal.SIGINT, interrupt)


@contextmanager
def progress_bar(
    what: str, total: int, interrupted: str, *, wanted: bool = True
) -> Iterator[Callable[[int], None]]:
    """A bar for `what`, where it is `wanted`, somebody looks at it and there is something to wait for: call what it gives with
    how many of `total` are done. `interrupted` is said at Ctrl-C, which ends the command and not what it follows."""
    if not (wanted and total and sys.stdout.isatty()):
        yield lambda completed: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console()) as bar:
        try:
            task = bar.add_task(what, total=total)
            yield lambda completed: bar.update(task, completed=completed)
        except KeyboardInterrupt:
            bar.stop()
            click.echo(interrupted)
            raise
