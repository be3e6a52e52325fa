"""The options that all services share: defaults, variables, and one line for what will not do."""

from pathlib import Path
from typing import Any

import click
import pytest
import zmq
from click.testing import CliRunner
from headwater_bus import logs, options, ports
from headwater_bus.keys import main as keys_main
from headwater_bus.node import NodeConfig
from headwater_bus.sockets import BindError

VARIABLES = (
    "NODE_ID",
    "BASE_PORT",
    "REGISTRY",
    "KEYS",
    "DATA",
    "BIND",
    "ADVERTISE",
    "LOG_FORMAT",
    "LOG_LEVEL",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.delenv("HONCHO_PROCESS_NAME", raising=False)
    monkeypatch.setattr(logs, "configure", lambda *args, **more: None)


def parse(*arguments: str, role: str = "edge") -> NodeConfig:
    seen: list[NodeConfig] = []

    @click.command()
    @options.node_options
    def command(**given: Any) -> None:
        seen.append(options.node_config(role, given))

    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    return seen[0]


def refused(*arguments: str, role: str = "edge") -> str:
    @click.command()
    @options.node_options
    def command(**given: Any) -> None:
        options.node_config(role, given)

    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2, done.output
    assert len(done.output.splitlines()) == 1, done.output
    return done.output


def test_defaults() -> None:
    config = parse()
    assert (config.node_id, config.role, config.bind, config.keys) == ("edge-1", "edge", "127.0.0.1", None)
    assert config.registries == ("tcp://127.0.0.1:1936", "tcp://127.0.0.1:1937")
    assert config.registry_nodes == ("registry-1", "registry-2")
    assert parse("--base-port", "4000").registries == ("tcp://127.0.0.1:4001", "tcp://127.0.0.1:4002")


def test_registries_have_names_by_position() -> None:
    two = ("--registry", "tcp://127.0.0.1:5", "--registry", "tcp://127.0.0.1:6")
    assert parse(*two).registry_nodes == ("registry-1", "registry-2")
    named = parse(*two, "--registry-node", "registry-a", "--registry-node", "registry-b")
    assert named.registry_nodes == ("registry-a", "registry-b")
    assert [named.registry_node(position) for position in range(3)] == [
        "registry-a", "registry-b", "registry-3"
    ]  # fmt: skip
    lone = parse("--registry-node", "registry-x")
    assert (lone.registries, lone.registry_nodes) == (("tcp://127.0.0.1:1936",), ("registry-x",))
    assert "--registry-node was given 1 times and --registry 2 times" in refused(
        *two, "--registry-node", "registry-a"
    )


@pytest.mark.parametrize(
    ("node_id", "given", "position"),
    [
        ("registry-1", 0, 0),
        ("registry-2", 0, 1),
        ("registry-main", 0, 0),
        ("registry-7", 1, 0),
        ("registry-2", 3, 1),
        ("registry-3", 3, 2),
    ],
)
def test_a_registry_is_the_one_of_its_number(node_id: str, given: int, position: int) -> None:
    registries = tuple(f"tcp://127.0.0.1:{number}" for number in range(1, given + 1))
    assert options.own_registry(node_id, {"registries": registries}) == position


@pytest.mark.parametrize(
    ("given", "says"), [(0, "nodes look for 2 registries"), (2, "was given 2 registries")]
)
def test_a_registry_that_nobody_would_find_is_told(given: int, says: str) -> None:
    with pytest.raises(options.OperatorError, match=says):
        options.own_registry("registry-3", {"registries": ("tcp://127.0.0.1:1",) * given})


def test_the_node_id_comes_from_honcho(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONCHO_PROCESS_NAME", "edge.2")
    assert parse().node_id == "edge-2"
    assert parse(role="origin").node_id == "origin-1"
    assert parse("--node-id", "edge-x").node_id == "edge-x"
    monkeypatch.setenv("HEADWATER_NODE_ID", "edge-7")
    assert parse().node_id == "edge-7"


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_REGISTRY", "tcp://127.0.0.1:1 ipc:///run/registry")
    monkeypatch.setenv("HEADWATER_DATA", "elsewhere")
    monkeypatch.setenv("HEADWATER_BIND", "127.0.0.2")
    config = parse()
    assert config.registries == ("tcp://127.0.0.1:1", "ipc:///run/registry")
    assert (config.data, config.bind) == (Path("elsewhere"), "127.0.0.2")


def test_ipv6_is_put_in_brackets() -> None:
    assert parse("--bind", "::1").bind == parse("--bind", "[::1]").bind == "[::1]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bind", "0.0.0.0"], "--bind 0.0.0.0: others than this machine"),
        (["--bind", "*"], "give --keys"),
        (["--bind", "::"], "give --keys"),
        (["--bind", "edge.example"], "give --keys"),
        (["--bind", "127.0.0.1:80"], "expected a host alone"),
        (["--bind", "127.0.0.1;10.0.0.1"], "expected a host alone"),
        (["--bind", ""], "expected a host alone"),
        (["--registry", "tcp://10.0.0.1:1"], "give --keys"),
        (["--registry", "tcp://*:1"], "give --keys"),
        (["--registry", "127.0.0.1:1936"], "expected tcp://HOST:PORT"),
        (["--registry", "tcp://127.0.0.1"], "expected tcp://HOST:PORT"),
        (["--registry", "tcp://127.0.0.1:65536"], "expected tcp://HOST:PORT"),
        (["--registry", "tcp://127.0.0.1:0;10.0.0.1:1"], "expected tcp://HOST:PORT"),
        (["--node-id", "origin-1"], "expected edge-NAME"),
        (["--node-id", "ed\nge"], "expected one of registry"),
        (["--keys", "."], "edge-1.key_secret"),
    ],
)
def test_what_will_not_do_is_one_line(arguments: list[str], says: str) -> None:
    assert says in refused(*arguments)


def test_with_keys_other_machines_may_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert CliRunner().invoke(keys_main, ["make", str(folder), "edge-1", "registry-1"]).exit_code == 0
    config = parse("--keys", str(folder), "--bind", "10.0.0.1", "--registry", "tcp://10.0.0.2:1936")
    assert (config.bind, config.registries, config.keys) == ("10.0.0.1", ("tcp://10.0.0.2:1936",), folder)
    assert "give --advertise" in refused("--keys", str(folder), "--bind", "0.0.0.0")
    config = parse("--keys", str(folder), "--bind", "0.0.0.0", "--advertise", "edge.example")
    assert config.advertise == "edge.example"
    assert "public key of registry-9" in refused("--keys", str(folder), "--registry-node", "registry-9")
    # A second registry is looked for where it has a key.
    assert parse("--keys", str(folder)).registries == ("tcp://127.0.0.1:1936",)
    assert CliRunner().invoke(keys_main, ["make", str(folder), "registry-2"]).exit_code == 0
    assert parse("--keys", str(folder)).registry_nodes == ("registry-1", "registry-2")


def test_a_port_in_use_is_an_operators_error() -> None:
    with (
        pytest.raises(options.OperatorError, match="is another one running there") as caught,
        options.operator_errors(),
    ):
        raise BindError("tcp://127.0.0.1:5", zmq.ZMQError(zmq.EADDRINUSE))
    assert caught.value.exit_code == 2
    assert "tcp://127.0.0.1:5: cannot listen there: Address already in use" in caught.value.message


def test_a_command_that_asks_says_what_is_wrong() -> None:
    @click.command()
    @options.client_options
    def command(**given: Any) -> None:
        options.ClusterClient(given)

    done = CliRunner().invoke(command, ["--registry", "tcp://10.0.0.1:1"])
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
    assert "unencrypted" in done.output


def client_of(*arguments: str) -> tuple[int, str, list[str]]:
    asking: list[str] = []

    @click.command()
    @options.client_options
    def command(**given: Any) -> None:
        asking.append(options.ClusterClient(given).security.node_id)

    done = CliRunner().invoke(command, arguments)
    return done.exit_code, done.output, asking


def test_a_command_that_asks_takes_the_key_of_an_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    nodes = ["registry-1", "operator-zoe", "operator-anna", "edge-1"]
    assert CliRunner().invoke(keys_main, ["make", str(keys), *nodes]).exit_code == 0
    assert client_of("--keys", str(keys)) == (0, "", ["operator-anna"])
    assert client_of("--keys", str(keys), "--node-id", "operator-zoe")[2] == ["operator-zoe"]
    monkeypatch.setenv("HEADWATER_NODE_ID", "edge-1")
    assert client_of("--keys", str(keys))[2] == ["edge-1"]
    monkeypatch.setenv("HEADWATER_NODE_ID", "operator-9")
    status, output, _ = client_of("--keys", str(keys))
    assert (status, len(output.splitlines())) == (2, 1)
    assert "operator-9.key_secret" in output
    monkeypatch.delenv("HEADWATER_NODE_ID")
    for path in keys.glob("operator-*.key_secret"):
        path.unlink()
    status, output, _ = client_of("--keys", str(keys))
    assert (status, len(output.splitlines())) == (2, 1)
    assert "expected operator-NAME.key_secret there" in output


def test_usage_errors_of_a_group_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.group(cls=options.CommandGroup)
    @click.option("--deep", type=click.Choice(["a", "b"]))
    def group(deep: str | None) -> None:
        pass

    @group.command()
    @options.client_options
    @click.argument("wanted", type=click.Choice(["a", "b"]))
    def show(**given: Any) -> None:
        pass

    for arguments, says in (
        (["nosuch"], "No such command 'nosuch'; see group --help"),
        (["--deep", "c", "show"], "'c' is not one of 'a', 'b'"),
        (["show"], "Missing argument"),
        (["show", "a", "--nope"], "No such option"),
        (["show", "a", "--base-port", "0"], "0 is not in the range"),
    ):
        done = CliRunner().invoke(group, arguments)
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1), done.output
        assert done.output.startswith("Error: ")
        assert says in done.output
    monkeypatch.setenv("HEADWATER_BASE_PORT", "abc")
    done = CliRunner().invoke(group, ["show", "a"])
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1), done.output
    assert "HEADWATER_BASE_PORT" in done.output
    assert "Commands:" in CliRunner().invoke(group, []).output


def test_ports() -> None:
    assert ports.shared_rtmp_port(1935) == 1935
    assert ports.registry_port(1935) == 1936
    assert ports.edge_rtmp_port(1935, "edge-2") == 1947
    assert ports.edge_rtmp_port(1935, "edge-main") == 1945
    assert ports.node_number("edge-10b7") == 7
    with pytest.raises(ValueError, match="number 101, expected 100 at most"):
        ports.edge_rtmp_port(1935, "edge-101")
