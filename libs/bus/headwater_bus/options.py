"""Command line options that all services share."""

import ipaddress
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import gevent
import zmq.green as zmq
from click.exceptions import NoArgsIsHelpError
from rich.console import Console

from headwater_bus import logs
from headwater_bus.node import NodeConfig
from headwater_bus.ports import DEFAULT_BASE_PORT, DEFAULT_REGISTRIES, node_number, registry_port
from headwater_bus.requests import RefusedError, RequestError, ask
from headwater_bus.security import Security, SecurityError, check_exposure, role_of
from headwater_bus.sockets import BindError

Command = Callable[..., Any]
_REGISTRY_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:;/@\[\]]+):(?P<port>\d{1,5})|ipc://\S+")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\s:;/@\[\]]+")
_LAST_PORT = 65_535
"""ZeroMQ takes higher numbers, and means others."""
_ANY = ("0.0.0.0", "[::]", "*")
_ASK_S, _ASK_EACH_S, _ASK_PAUSE_S = 3.0, 1.0, 0.1
"""So long a command looks for a registry that answers; each of several has so long; and the pause after all were tried."""


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


def option_stack(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator of several; help shows their options in this order."""

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
    help="tcp://HOST:PORT or ipc://PATH of the registry; given once for each where there are several, in the variable "
    "separated by spaces [default: tcp://127.0.0.1: base port + 1, then + 2].",
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
    "registry_nodes",
    multiple=True,
    metavar="NODE",
    help="Node id of the registry, whose key it must have; once for each --registry [default: registry-1, registry-2 ...].",
)

node_options = option_stack(
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

client_options = option_stack(
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


def _registries(options: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Endpoints of the registries, and whose key each must have. Raises OperatorError."""
    endpoints, names = tuple(options["registries"]), tuple(options["registry_nodes"])
    if not endpoints:
        numbers = range(1, DEFAULT_REGISTRIES + 1)
        endpoints = tuple(
            f"tcp://127.0.0.1:{registry_port(options['base_port'], number)}"
            for number in numbers[: len(names) or None]
            if number == 1 or names or _may_be_there(f"registry-{number}", options["keys"])
        )
    if names and len(names) != len(endpoints):
        raise OperatorError(
            f"--registry-node was given {len(names)} times and --registry {len(endpoints)} times; give each its own"
        )
    _check_registries(endpoints, options)
    return endpoints, names or tuple(f"registry-{number}" for number in range(1, len(endpoints) + 1))


def _may_be_there(node_id: str, keys: Path | None) -> bool:
    """Where there are keys, only those have nodes that have one."""
    return keys is None or (keys / "public" / f"{node_id}.key").exists()


def _check_registries(endpoints: tuple[str, ...], options: dict[str, Any]) -> None:
    for endpoint in endpoints:
        found = _REGISTRY_ENDPOINT.fullmatch(endpoint)
        if found is None or int(found["port"] or 0) > _LAST_PORT:
            raise OperatorError(f"--registry {endpoint!r}: expected tcp://HOST:PORT or ipc://PATH")
        with operator_errors():
            check_exposure(endpoint, options["keys"] is not None, f"--registry {endpoint}")


def own_registry(node_id: str, options: dict[str, Any]) -> int:
    """The position of a registry among those that there are, by its number, and 0 where one is given only. Raises
    OperatorError."""
    given = len(options["registries"])
    number, most = max(1, node_number(node_id)), given or DEFAULT_REGISTRIES
    if given == 1:
        return 0
    if number > most:
        raise OperatorError(
            f"--node-id {node_id}: number {number}, but {'--registry was given' if given else 'nodes look for'} {most} "
            "registries; give --registry once for each, here and at all nodes"
        )
    return number - 1


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
    _check_bind(bind, advertise, keys is not None)
    registries, registry_nodes = _registries(options)
    if role == "registry":
        registry_nodes = _with_own(registry_nodes, node_id, own_registry(node_id, options))
    with operator_errors():
        if keys is not None:
            security = Security.from_keys(keys, node_id)
            for registry_node in registry_nodes:
                security.public_key(registry_node)
    logs.configure(role, node_id, as_json=options["log_format"] == "json", level=options["log_level"])
    return NodeConfig(
        node_id=node_id,
        role=role,
        registries=registries,
        base_port=options["base_port"],
        data=options["data"],
        keys=keys,
        bind=bind,
        registry_nodes=registry_nodes,
        capacity=capacity,
        heartbeat_ms=options["heartbeat_ms"],
        advertise=advertise,
    )


def _with_own(registry_nodes: tuple[str, ...], node_id: str, position: int) -> tuple[str, ...]:
    """The registries' names with this one's own, whatever it is."""
    return (*registry_nodes[:position], node_id, *registry_nodes[position + 1 :])


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
    """What a command that only asks needs: the registries' endpoints and names, and how to talk to them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.registries, self.registry_nodes = _registries(options)
        self.as_json: bool = options["as_json"]
        self.context: Any = zmq.Context.instance()
        keys = options["keys"]
        with operator_errors():
            self.security = Security.plain()
            if keys:
                self.security = Security.from_keys(keys, options["node_id"] or _operator(keys))
                for registry_node in self.registry_nodes:
                    self.security.public_key(registry_node)

    def ask(self, envelope: Any, endpoint: str = "", server: str = "") -> Any:
        """Ask the registry that leads, or the node `server` at `endpoint`. Raises OperatorError with what to do about it."""
        try:
            with operator_errors():
                if endpoint:
                    return ask(self.context, self.security, endpoint, server, envelope)
                return self._ask_registries(envelope)
        except RefusedError as error:
            raise OperatorError(str(error)) from error
        except RequestError as error:
            raise OperatorError(
                f"{error}; is the cluster running (make run), on this --base-port, with these --keys?"
            ) from error

    def _ask_registries(self, envelope: Any) -> Any:
        """In turn, until one answers that leads."""
        deadline = time.monotonic() + _ASK_S
        while True:
            failure: RequestError | None = None
            for endpoint, name in zip(self.registries, self.registry_nodes, strict=True):
                timeout_s = _ASK_S if len(self.registries) == 1 else _ASK_EACH_S
                try:
                    return ask(
                        self.context, self.security, endpoint, name, envelope, timeout_s, patient=False
                    )
                except RefusedError as error:
                    if error.code != "standby":
                        raise
                    failure = failure or error
                except RequestError as error:
                    failure = failure or error
            if time.monotonic() > deadline and failure is not None:
                raise failure
            gevent.sleep(_ASK_PAUSE_S)
