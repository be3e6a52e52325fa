"""Node ids, and which endpoints only this machine reaches."""

from pathlib import Path

import pytest
from headwater_bus.security import Security, SecurityError, is_local, role_of


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:5",
        "tcp://127.8.9.1:*",
        "tcp://localhost:5",
        "tcp://[::1]:5",
        "ipc:///run/headwater",
        "inproc://x",
    ],
)
def test_local(endpoint: str) -> None:
    assert is_local(endpoint)
    Security.plain().check_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://*:5",
        "tcp://0.0.0.0:5",
        "tcp://[::]:5",
        "tcp://10.0.0.1:5",
        "tcp://registry.example:5",
        "tcp://127.0.0.1.example.org:5",
        "tcp://127.0.0.1@10.0.0.1:5",
        "tcp://127.0.0.1:0;10.0.0.1:5",  # ZeroMQ: from 127.0.0.1, to 10.0.0.1.
        "tcp://[::ffff:10.0.0.1]:5",
        "tcp://eth0:5",
        "tcp://127.0.0.1",
        "ws://127.0.0.1:5",
        "udp://127.0.0.1:5",
        "tcp://127.0.0.1:5\n",
        "",
    ],
)
def test_not_local(endpoint: str) -> None:
    assert not is_local(endpoint)
    with pytest.raises(SecurityError, match="give --keys"):
        Security.plain().check_endpoint(endpoint)


@pytest.mark.parametrize("node_id", ["edge-1", "origin-eu.west_2", "registry-1", "operator-anna"])
def test_node_ids(node_id: str) -> None:
    assert role_of(node_id) == node_id.partition("-")[0]


@pytest.mark.parametrize(
    "node_id",
    ["", "edge", "edge-", "edge-/", "edge-..", "edge-1\n", "client-1", "Edge-1", "edge-" + "1" * 70],
)
def test_what_is_no_node_id(node_id: str) -> None:
    with pytest.raises(SecurityError, match="expected one of registry, balancer"):
        role_of(node_id)


def test_missing_keys_name_file_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match=r"edge-1\.key_secret.*headwater-keys make"):
        Security.from_keys(tmp_path, "edge-1")
