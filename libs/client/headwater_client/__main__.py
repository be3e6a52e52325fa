"""`headwater-client`: publish and record FLV files, look at and change SharedObjects, find a way to a server."""

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import gevent
from gevent.queue import Empty, Queue
from headwater_rtmp.url import parse_rtmp_url
from rich.console import Console

from headwater_client.display import as_json, change_line, shown_progress, slots_table, summary, tried_table
from headwater_client.errors import ClientError, ConnectionClosed
from headwater_client.net_connection import NetConnection
from headwater_client.object_state import ChangeEvent
from headwater_client.probing import first_way, parse_way, probe
from headwater_client.shared_object import SharedObject

_EXPECTED = "expected rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM"
_SECONDS = click.FloatRange(min=0, min_open=True, max=10**9)
_PROBE_S = 5.0
_TLS = (
    click.option(
        "--ca-file",
        type=click.Path(exists=True, dir_okay=False),
        help="rtmps, rtmpts: certificates (PEM) of whoever signs the server's.",
    ),
    click.option("--insecure", is_flag=True, help="rtmps, rtmpts: take any certificate."),
)
_CONNECTION = (
    click.option(
        "--timeout",
        "timeout_s",
        type=_SECONDS,
        default=10.0,
        show_default=True,
        help="Seconds to wait for any answer.",
    ),
    click.option("--probe", is_flag=True, help="Take the first way that works, as `probe` tries them."),
    click.option(
        "--reconnect",
        "reconnect_s",
        type=_SECONDS,
        metavar="SECONDS",
        help="Make a lost connection again, for so long, and go on.",
    ),
    *_TLS,
)


def _with(options: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    """A decorator that adds options to a command, in their order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _connection(url: str, options: dict[str, Any], *arguments: Any) -> NetConnection:
    """A connection to be made, as the options of `_CONNECTION` say."""
    tls = {"ca_file": options["ca_file"], "insecure": options["insecure"]}
    if options["probe"]:
        url = first_way(url, (), *arguments, timeout_s=min(_PROBE_S, options["timeout_s"]), **tls)
    reconnect_s = options["reconnect_s"]
    return NetConnection(
        url,
        *arguments,
        timeout_s=options["timeout_s"],
        reconnect=reconnect_s is not None,
        reconnect_s=reconnect_s or 0.0,
        **tls,
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
    """An RTMP client: publish and record FLV files, look at and change SharedObjects, find a way to a server.

    URL is rtmp://, rtmps:// (within TLS), rtmpt:// (in HTTP requests) or rtmpts:// (in HTTPS requests). A
    query, such as a token, may stand behind the application, for connect, or behind the stream."""


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("url")
@click.option("--loop", is_flag=True, help="Over and over, until --duration or Ctrl-C.")
@click.option(
    "--fast", is_flag=True, help="As fast as the server takes it, not as fast as it is to be played."
)
@click.option("--duration", "duration_s", type=_SECONDS, help="Seconds of media at most.")
@_with(_CONNECTION)
def publish(file: Path, url: str, loop: bool, fast: bool, duration_s: float | None, **options: Any) -> None:
    """Publish FILE, an FLV file, at URL: rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM."""
    with _ending_well():
        target, name = _split(url)
        with open(file, "rb") as source, _connection(target, options) as connection:
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
@_with(_CONNECTION)
def play(url: str, file: Path, duration_s: float | None, **options: Any) -> None:
    """Play URL, rtmp://HOST[:PORT]/APP[/INSTANCE]/STREAM, and record it into FILE, an FLV file."""
    with _ending_well():
        target, name = _split(url)
        with _connection(target, options) as connection:
            stream = connection.create_stream()
            stream.play(name)
            with shown_progress(Console(stderr=True), f"recording {name}") as show:
                progress = stream.record(
                    file, duration_s=duration_s, timeout_s=options["timeout_s"], progress=show
                )
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
@_with(_CONNECTION)
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
    **options: Any,
) -> None:
    """Use the SharedObject NAME at URL, rtmp://HOST[:PORT]/APP[/INSTANCE]; change it, and print its contents."""
    with _ending_well():
        changes = [_setting(text) for text in settings]
        calls = [_handler_call(text) for text in sends]
        with _connection(url, options, *map(_value, arguments)) as connection:
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


@main.command("probe")
@click.argument("url", metavar="HOST/APP")
@click.option(
    "--try",
    "ways",
    multiple=True,
    metavar="SCHEME:PORT",
    help="Try this, and nothing that is not named; rtmpt:8080 for example.",
)
@click.option(
    "--arg", "arguments", multiple=True, metavar="VALUE", help="An argument of connect: JSON, or else text."
)
@click.option("--json", "json_lines", is_flag=True, help="Print JSON, a line for each way.")
@click.option(
    "--timeout",
    "timeout_s",
    type=_SECONDS,
    default=_PROBE_S,
    show_default=True,
    help="Seconds for each way.",
)
@_with(_TLS)
def probe_command(
    url: str,
    ways: tuple[str, ...],
    arguments: tuple[str, ...],
    json_lines: bool,
    timeout_s: float,
    **tls: Any,
) -> None:
    """Which ways lead to an application: RTMP on ports 1935, 443 and 80, then RTMPT on port 80, as Flash Player tried them; for
    rtmps://HOST/APP those within TLS. Ends with status 1 where the application takes us by none."""
    with _ending_well():
        address = url if "://" in url else f"rtmp://{url}"
        asked = [parse_way(text) for text in ways]
        found = []
        for tried in probe(address, asked, *map(_value, arguments), timeout_s=timeout_s, **tls):
            found.append(tried)
            if json_lines:
                click.echo(as_json(asdict(tried)))
        if not json_lines:
            Console().print(tried_table(found))
        if not any(tried.accepted for tried in found):
            sys.exit(1)


if __name__ == "__main__":
    main()
