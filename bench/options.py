"""Options that commands of the benchmarks have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.object_plan import MOST_CHANGES
from bench.store_cluster import STORES

Decorate = Callable[[Callable[..., None]], Callable[..., None]]


def several(*names: str, kind: Any, default: Any, about: str) -> Decorate:
    """One that may be given more than once."""
    return click.option(
        *names,
        type=kind,
        multiple=True,
        default=default,
        show_default=True,
        help=f"{about.rstrip('.')}; may be given more than once.",
    )


def seconds_option(default: float, most: float = 600) -> Decorate:
    """`seconds`."""
    kind = click.FloatRange(1, most)
    return click.option("--seconds", type=kind, default=default, show_default=True, help="Measured time.")


def runs_option(default: int) -> Decorate:
    """`runs`."""
    return click.option("--runs", type=click.IntRange(1), default=default, show_default=True)


def out_option(files: str) -> Decorate:
    """`out`: where `files` are written."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("bench/out"),
        show_default=True,
        help=f"Folder for {files}.",
    )


def three_files(name: str) -> str:
    """What most benchmarks write."""
    return f"{name}.json, {name}.md and {name}.png"


BATCHES = several(
    "--batch", "batches", kind=click.IntRange(1, MOST_CHANGES), default=(1, 20), about="Changes in one message"
)  # fmt: skip


def stores_option(*default: str) -> Decorate:
    """`stores`."""
    about = "Where the journal is (bench.cost compares them)"
    return several("--store", "stores", kind=click.Choice(STORES), default=default, about=about)


def flush_option(*default: int) -> Decorate:
    """`flush_ms`."""
    return several(
        "--flush-ms", kind=click.IntRange(0, 1000), default=default, about="Headwater's --flush-ms where media is measured"
    )  # fmt: skip
