"""Command line options that all services share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from headwater_bus import logs
from headwater_bus.node import NodeConfig
from headwater_bus.ports import DEFAULT_BASE_PORT, registry_port
from headwater_bus.security import Security, SecurityError, is_local, role_of

Command = Callable[..., Any]


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
    help="Endpoint of the registry [default: tcp://127.0.0.1: base port + 1].",
)
_KEYS = click.option(
    "--keys",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="HEADWATER_KEYS",
    show_envvar=True,
    help="Folder with CURVE keys (headwater-keys make).",
)
_NODE_ID = click.option(
    "--node-id", help="This node's name, ROLE-NAME [default: from HONCHO_PROCESS_NAME, else ROLE-1]."
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
        "--bind", default="127.0.0.1", show_default=True, help="Interface that other nodes reach this one on."
    ),
    click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True),
    click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True),
    click.option("--heartbeat-ms", type=click.IntRange(50, 60_000), default=1000, show_default=True),
)
"""Options of a `serve` command; `node_config` takes them."""

client_options = _stack(
    _BASE_PORT, _REGISTRY, _REGISTRY_NODE, _KEYS, click.option("--json", "as_json", is_flag=True)
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
        if not endpoint.startswith(("tcp://", "ipc://")):
            raise click.UsageError(f"--registry {endpoint}: expected tcp://HOST:PORT or ipc://PATH")
        if options["keys"] is None and not is_local(endpoint):
            raise click.UsageError(
                f"--registry {endpoint}: others than this machine would read it unencrypted; give --keys (headwater-keys make)"
            )
    return endpoints


def node_config(role: str, options: dict[str, Any], capacity: float = 1.0) -> NodeConfig:
    """The config of a service, from the options; logging is set up too. Raises click.UsageError (exit status 2)."""
    node_id = options["node_id"] or _default_node_id(role)
    try:
        if role_of(node_id) != role:
            raise SecurityError(f"--node-id {node_id}: expected {role}-NAME")
        if options["keys"] is not None:
            Security.from_keys(options["keys"], node_id)
        bind = options["bind"]
        if options["keys"] is None and not is_local(f"tcp://[{bind}]" if ":" in bind else f"tcp://{bind}"):
            raise SecurityError(
                f"--bind {bind}: others than this machine would reach an unencrypted socket; "
                "give --keys (headwater-keys make), or bind 127.0.0.1"
            )
    except SecurityError as error:
        raise click.UsageError(str(error)) from error
    logs.configure(role, node_id, as_json=options["log_format"] == "json", level=options["log_level"])
    return NodeConfig(
        node_id=node_id,
        role=role,
        registries=_registries(options),
        base_port=options["base_port"],
        data=options["data"],
        keys=options["keys"],
        bind=bind,
        registry_node=options["registry_node"],
        capacity=capacity,
        heartbeat_ms=options["heartbeat_ms"],
    )


class ClusterClient:
    """What a command that only asks needs: the registry's endpoint and how to talk to it."""

    def __init__(self, options: dict[str, Any]) -> None:
        import zmq.green as zmq

        self.registries = _registries(options)
        self.registry_node: str = options["registry_node"]
        self.as_json: bool = options["as_json"]
        self.context: Any = zmq.Context.instance()
        keys = options["keys"]
        try:
            self.security = Security.from_keys(keys, "operator-1") if keys else Security.plain()
        except SecurityError as error:
            raise click.UsageError(str(error)) from error

    def ask(self, envelope: Any, endpoint: str = "", server: str = "") -> Any:
        """Ask the registry, or the node at `endpoint`. Raises click.UsageError with what to do about it."""
        from headwater_bus.requests import RequestError, ask

        try:
            return ask(
                self.context,
                self.security,
                endpoint or self.registries[0],
                server or self.registry_node,
                envelope,
            )
        except RequestError as error:
            raise click.UsageError(
                f"{error}; is the cluster running (make run), on this base port?"
            ) from error
