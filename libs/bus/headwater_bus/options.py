"""Command line options that all services share."""

import ipaddress
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import zmq.green as zmq
from click.exceptions import NoArgsIsHelpError
from rich.console import Console

from headwater_bus import logs
from headwater_bus.node import NodeConfig
from headwater_bus.ports import DEFAULT_BASE_PORT, registry_port
from headwater_bus.requests import RefusedError, RequestError, ask
from headwater_bus.security import Security, SecurityError, check_exposure, role_of
from headwater_bus.sockets import BindError

Command = Callable[..., Any]
_REGISTRY_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:;/@\[\]]+):(?P<port>\d{1,5})|ipc://\S+")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\s:;/@\[\]]+")
_LAST_PORT = 65_535
"""ZeroMQ takes higher numbers, and means others."""
_ANY = ("0.0.0.0", "[::]", "*")


class OperatorError(click.ClickException):
    """Bad operator input: one line that says what was seen, what was expected and the remedy; exit status 2."""

    exit_code = 2


@contextmanager
def _usage_in_a_line() -> Iterator[None]:
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        text = " ".join(error.format_message().split()).rstrip(".")
        program = f"{error.ctx.command_path} --help" if error.ctx is not None else "--help"
        raise OperatorError(f"{text}; see {program}") from error


class CommandGroup(click.Group):
    """A group of commands, `@click.group(cls=CommandGroup)`, whose usage errors are one line too."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """As click's."""
        with _usage_in_a_line():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        with _usage_in_a_line():
            return super().invoke(ctx)


@contextmanager
def operator_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Around a service's start: keys, endpoints and ports that will not do end it with an OperatorError, and so do errors of
    these `kinds`, whose text is for the operator."""
    try:
        yield
    except kinds as error:
        raise OperatorError(str(error)) from error
    except BindError as error:
        raise OperatorError(
            f"{error.strerror}; is another one running there? Stop it, or give another --base-port or --bind"
        ) from error
    except SecurityError as error:
        raise OperatorError(str(error)) from error


def _stack(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_BASE_PORT = click.option(
    "--base-port",
    type=click.IntRange(1, 65_000),
    default=DEFAULT_BASE_PORT,
    show_default=True,
    envvar="HEADWATER_BASE_PORT",
    show_envvar=True,
    help="Every port of the cluster counts from it.",
)
_REGISTRY = click.option(
    "--registry",
    "registries",
    multiple=True,
    envvar="HEADWATER_REGISTRY",
    show_envvar=True,
    metavar="ENDPOINT",
    help="tcp://HOST:PORT or ipc://PATH of the registry; given more than once they are tried in turn, in the variable "
    "separated by spaces [default: tcp://127.0.0.1: base port + 1].",
)
_KEYS = click.option(
    "--keys",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="HEADWATER_KEYS",
    show_envvar=True,
    help="Folder with CURVE keys (headwater-keys make).",
)
_NODE_ID = click.option(
    "--node-id",
    envvar="HEADWATER_NODE_ID",
    show_envvar=True,
    help="This node's name, ROLE-NAME [default: HONCHO_PROCESS_NAME with a dash (edge.2 is edge-2), else ROLE-1].",
)
_REGISTRY_NODE = click.option(
    "--registry-node",
    default="registry-1",
    show_default=True,
    help="Node id of the registry, whose key it must have.",
)

node_options = _stack(
    _NODE_ID,
    _BASE_PORT,
    _REGISTRY,
    _REGISTRY_NODE,
    _KEYS,
    click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("data"),
        show_default=True,
        envvar="HEADWATER_DATA",
        show_envvar=True,
        help="Folder for what must last.",
    ),
    click.option(
        "--bind",
        default="127.0.0.1",
        show_default=True,
        envvar="HEADWATER_BIND",
        show_envvar=True,
        metavar="HOST",
        help="Interface that other nodes reach this one on.",
    ),
    click.option(
        "--advertise",
        default="",
        envvar="HEADWATER_ADVERTISE",
        show_envvar=True,
        metavar="HOST",
        help="What others are told instead of --bind: needed where that is 0.0.0.0, or behind a translated address.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="HEADWATER_LOG_FORMAT",
        show_envvar=True,
    ),
    click.option(
        "--log-level",
        type=click.Choice(logs.LEVELS),
        default="info",
        show_default=True,
        envvar="HEADWATER_LOG_LEVEL",
        show_envvar=True,
    ),
    click.option(
        "--heartbeat-ms",
        type=click.IntRange(50, 60_000),
        default=1000,
        show_default=True,
        help="How often the node renews its lease at the registry.",
    ),
)
"""Options of a `serve` command; `node_config` takes them."""

client_options = _stack(
    _BASE_PORT,
    _REGISTRY,
    _REGISTRY_NODE,
    _KEYS,
    click.option(
        "--node-id",
        envvar="HEADWATER_NODE_ID",
        show_envvar=True,
        help="Whose key in --keys to ask with [default: the first operator-NAME].",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)
"""Options of a command that only asks."""


def _default_node_id(role: str) -> str:
    name = os.environ.get("HONCHO_PROCESS_NAME", "")
    if name.startswith(f"{role}."):
        return name.replace(".", "-")
    return f"{role}-1"


def _registries(options: dict[str, Any]) -> tuple[str, ...]:
    given = tuple(options["registries"])
    endpoints = given or (f"tcp://127.0.0.1:{registry_port(options['base_port'])}",)
    for endpoint in endpoints:
        found = _REGISTRY_ENDPOINT.fullmatch(endpoint)
        if found is None or int(found["port"] or 0) > _LAST_PORT:
            raise OperatorError(f"--registry {endpoint!r}: expected tcp://HOST:PORT or ipc://PATH")
        with operator_errors():
            check_exposure(endpoint, options["keys"] is not None, f"--registry {endpoint}")
    return endpoints


def _host(option: str, host: str) -> str:
    """A host as it stands in an endpoint: IPv6 in brackets."""
    try:
        named = f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        named = host
    if not _HOST.fullmatch(named):
        raise OperatorError(f"{option} {host!r}: expected a host alone, without a port (127.0.0.1)")
    return named


def _check_bind(bind: str, advertise: str, encrypted: bool) -> None:
    with operator_errors():
        check_exposure(f"tcp://{bind}:1", encrypted, f"--bind {bind}", "bind 127.0.0.1")
    if bind in _ANY and not advertise:
        raise OperatorError(
            f"--bind {bind}: other nodes must be told an address of this machine; give --advertise HOST"
        )


def node_config(role: str, options: dict[str, Any], capacity: float = 1.0) -> NodeConfig:
    """The config of a service, from the options; logging is set up too. Raises OperatorError (exit status 2)."""
    node_id = options["node_id"] or _default_node_id(role)
    keys = options["keys"]
    bind = _host("--bind", options["bind"])
    advertise = _host("--advertise", options["advertise"]) if options.get("advertise") else ""
    with operator_errors():
        if role_of(node_id) != role:
            raise OperatorError(f"--node-id {node_id}: expected {role}-NAME")
        if keys is not None:
            security = Security.from_keys(keys, node_id)
            security.public_key(node_id if role == "registry" else options["registry_node"])
    _check_bind(bind, advertise, keys is not None)
    registries = _registries(options)
    logs.configure(role, node_id, as_json=options["log_format"] == "json", level=options["log_level"])
    return NodeConfig(
        node_id=node_id,
        role=role,
        registries=registries,
        base_port=options["base_port"],
        data=options["data"],
        keys=keys,
        bind=bind,
        registry_node=options["registry_node"],
        capacity=capacity,
        heartbeat_ms=options["heartbeat_ms"],
        advertise=advertise,
    )


def _operator(keys: Path) -> str:
    """Whose key a command that only asks has. Raises OperatorError."""
    found = sorted(path.stem for path in keys.glob("operator-*.key_secret"))
    if not found:
        raise OperatorError(
            f"--keys {keys}: expected operator-NAME.key_secret there; copy it here, make one (headwater-keys make), "
            "or say with --node-id whose key to ask with"
        )
    return found[0]


def console() -> Console:
    """Standard output for tables: as wide as the terminal; into a pipe or a file no row is ever wrapped."""
    return Console() if sys.stdout.isatty() else Console(width=10_000, soft_wrap=True)


class ClusterClient:
    """What a command that only asks needs: the registry's endpoint and how to talk to it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.registries = _registries(options)
        self.registry_node: str = options["registry_node"]
        self.as_json: bool = options["as_json"]
        self.context: Any = zmq.Context.instance()
        keys = options["keys"]
        with operator_errors():
            self.security = Security.plain()
            if keys:
                self.security = Security.from_keys(keys, options["node_id"] or _operator(keys))
                self.security.public_key(self.registry_node)

    def ask(self, envelope: Any, endpoint: str = "", server: str = "") -> Any:
        """Ask the registries in turn, or the node at `endpoint`. Raises OperatorError with what to do about it."""
        failure: RequestError | None = None
        for target in (endpoint,) if endpoint else self.registries:
            try:
                with operator_errors():
                    return ask(self.context, self.security, target, server or self.registry_node, envelope)
            except RefusedError as error:
                raise OperatorError(str(error)) from error
            except RequestError as error:
                failure = error
        raise OperatorError(
            f"{failure}; is the cluster running (make run), on this --base-port, with these --keys?"
        ) from failure
