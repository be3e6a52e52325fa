"""`headwater-client`: publish and record FLV files, look at and change SharedObjects."""

import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import gevent
from gevent.queue import Empty, Queue
from headwater_rtmp.url import parse_rtmp_url
from rich.console import Console

from headwater_client.display import as_json, change_line, shown_progress, slots_table, summary
from headwater_client.errors import ClientError, ConnectionClosed
from headwater_client.net_connection import NetConnection
from headwater_client.object_state import ChangeEvent
from headwater_client.shared_object import SharedObject

_EXPECTED = "expected rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM"
_SECONDS = click.FloatRange(min=0, min_open=True, max=10**9)
_timeout = click.option(
    "--timeout",
    "timeout_s",
    type=_SECONDS,
    default=10.0,
    show_default=True,
    help="Seconds to wait for any answer.",
)


class _Stopped(BaseException):
    """A signal asks us to end; no handler of exceptions in between may take it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _ending_well() -> Iterator[None]:
    """Errors become one line and exit status 2, signals 128 + their number, without a traceback."""
    main_greenlet = gevent.getcurrent()

    def stop(number: int, _: object) -> None:
        # Raised where the command waits, so that files and connections are closed.
        gevent.kill(main_greenlet, _Stopped(number))

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped as stopped:
        sys.exit(128 + stopped.number)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"headwater-client: {place}{error.strerror or error}", err=True)
        sys.exit(2)
    except (ClientError, ValueError) as error:
        click.echo(f"headwater-client: {error}", err=True)
        sys.exit(2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _split(url: str) -> tuple[str, str]:
    """(connection URL, stream name) of rtmp://host/app[/instance]/stream."""
    target = parse_rtmp_url(url)
    if not target.app or not target.stream:
        raise ValueError(f"{url!r}: {_EXPECTED}")
    return target.tc_url, target.stream


@click.group()
@click.version_option(package_name="headwater-client")
def main() -> None:
    """An RTMP client: publish and record FLV files, look at and change SharedObjects."""


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("url")
@click.option("--loop", is_flag=True, help="Over and over, until --duration or Ctrl-C.")
@click.option(
    "--fast", is_flag=True, help="As fast as the server takes it, not as fast as it is to be played."
)
@click.option("--duration", "duration_s", type=_SECONDS, help="Seconds of media at most.")
@_timeout
def publish(file: Path, url: str, loop: bool, fast: bool, duration_s: float | None, timeout_s: float) -> None:
    """Publish FILE, an FLV file, at URL: rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM."""
    with _ending_well():
        target, name = _split(url)
        with open(file, "rb") as source, NetConnection(target, timeout_s=timeout_s) as connection:
            stream = connection.create_stream()
            with shown_progress(Console(stderr=True), f"publishing {name}") as show:
                progress = stream.publish_file(
                    source, name, realtime=not fast, loop=loop, duration_s=duration_s, progress=show
                )
            stream.close()
        click.echo(f"published {file} as {name}: {summary(progress)}")


@main.command()
@click.argument("url")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--duration", "duration_s", type=_SECONDS, help="Seconds of media at most.")
@_timeout
def play(url: str, file: Path, duration_s: float | None, timeout_s: float) -> None:
    """Play URL, rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM, and record it into FILE, an FLV file."""
    with _ending_well():
        target, name = _split(url)
        with NetConnection(target, timeout_s=timeout_s) as connection:
            stream = connection.create_stream()
            stream.play(name)
            with shown_progress(Console(stderr=True), f"recording {name}") as show:
                progress = stream.record(file, duration_s=duration_s, timeout_s=timeout_s, progress=show)
        click.echo(f"recorded {name} into {file}: {summary(progress)}")


@main.command()
@click.argument("url")
@click.argument("name")
@click.option(
    "--set", "settings", multiple=True, metavar="SLOT=VALUE", help="Set a slot: JSON, or else text."
)
@click.option("--delete", "deletions", multiple=True, metavar="SLOT", help="Delete a slot.")
@click.option("--clear", is_flag=True, help="Delete all slots, before --set.")
@click.option(
    "--send", "sends", multiple=True, metavar="'HANDLER ARG...'", help="Call a handler at all clients."
)
@click.option("--persistent", is_flag=True, help="The persistent object of that name.")
@click.option(
    "--arg", "arguments", multiple=True, metavar="VALUE", help="An argument of connect: JSON, or else text."
)
@click.option("--watch", is_flag=True, help="Print changes until Ctrl-C.")
@click.option("--json", "json_lines", is_flag=True, help="Print JSON.")
@_timeout
def so(
    url: str,
    name: str,
    settings: tuple[str, ...],
    deletions: tuple[str, ...],
    clear: bool,
    sends: tuple[str, ...],
    persistent: bool,
    arguments: tuple[str, ...],
    watch: bool,
    json_lines: bool,
    timeout_s: float,
) -> None:
    """Use the SharedObject NAME at URL, rtmp://HOST[:PORT]/APP[/INSTANCE]; change it, and print its contents."""
    with _ending_well():
        changes = [_setting(text) for text in settings]
        calls = [_handler_call(text) for text in sends]
        with NetConnection(url, *map(_value, arguments), timeout_s=timeout_s) as connection:
            shared = connection.shared_object(name, persistent)
            shared.wait_synced()
            seen: Queue[ChangeEvent] = Queue(maxsize=1000)
            if watch:
                shared.on_change(seen.put)
            if clear:
                shared.clear()
            shared.update(changes)
            for slot in deletions:
                if slot not in shared:
                    raise ValueError(
                        f"--delete {slot}: {name} has no such slot; it has {', '.join(sorted(shared)) or 'none'}"
                    )
                del shared[slot]
            for handler, args in calls:
                shared.send(handler, *args)
            shared.flush()
            _print_contents(shared, json_lines)
            if watch:
                _print_changes(connection, seen, json_lines)


def _setting(text: str) -> tuple[str, Any]:
    slot, equals, value = text.partition("=")
    if not equals or not slot:
        raise ValueError(f"--set {text!r}: expected SLOT=VALUE")
    return slot, _value(value)


def _handler_call(text: str) -> tuple[str, list[Any]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"--send {text!r}: {error}") from error
    if not words:
        raise ValueError("--send: expected 'HANDLER ARG...', got nothing")
    return words[0], [_value(word) for word in words[1:]]


def _value(text: str) -> Any:
    """JSON, or else the text itself. Numbers are what AMF0 has: floats."""
    try:
        return json.loads(text, parse_int=float)
    except ValueError:
        return text


def _print_changes(connection: NetConnection, seen: "Queue[ChangeEvent]", json_lines: bool) -> None:
    """Print changes as they come. Raises ConnectionClosed at the end."""
    while True:
        try:
            event = seen.get(timeout=0.5)
        except Empty:
            if connection.closed.is_set():
                raise ConnectionClosed(
                    f"{connection.url}: the connection is closed: {connection.close_reason}"
                ) from None
        else:
            click.echo(change_line(event, json_lines))


def _print_contents(shared: SharedObject, json_lines: bool) -> None:
    slots = dict(shared)
    if json_lines:
        fields = {
            "name": shared.name,
            "persistent": shared.persistent,
            "version": shared.version,
            "slots": slots,
        }
        click.echo(as_json(fields))
    else:
        click.echo(f"{shared.name}, {'persistent, ' if shared.persistent else ''}version {shared.version}")
        if slots:
            Console().print(slots_table(slots))


if __name__ == "__main__":
    main()
