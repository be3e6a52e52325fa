"""Listening and accepting: addresses, errors of the system, and what the command line says about them."""

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headwater_edge import service
from headwater_edge.listener import Listener, ListenError, resolve, shown
from support.ports import free_base_port
from support.waiting import TIME_FACTOR, eventually

Make = Callable[..., Listener]


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


LOOPBACK = ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]
EVERYWHERE = ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Listener] = []

    def listener(on_accept: Callable[[Any, str], None], host: str = "127.0.0.1", **options: Any) -> Listener:
        made.append(Listener(host, options.pop("port", 0), on_accept, **options))
        return made[-1]

    yield listener
    for each in made:
        each.close()


@pytest.mark.parametrize("host", LOOPBACK)
def test_connections_are_handed_over_with_their_address(make: Make, host: str) -> None:
    accepted: list[tuple[Any, str]] = []
    listener = make(lambda sock, address: accepted.append((sock, address)), host)
    clients = [socket.create_connection((host, listener.port)) for _ in range(100)]
    eventually(lambda: len(accepted) == 100, 10)
    assert {address for _, address in accepted} == {host}
    assert accepted[0][0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for sock in [*clients, *(sock for sock, _ in accepted)]:
        sock.close()


def test_both_families_may_listen_on_one_port(make: Make) -> None:
    port = 0
    for host in EVERYWHERE:
        port = make(lambda sock, address: sock.close(), host, port=port).port


def test_an_error_while_accepting_does_not_end_the_listener(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def accept(sock: Any, address: str) -> None:
        seen.append(address)
        if len(seen) == 1:
            raise ZeroDivisionError("by design")
        sock.close()

    listener = make(accept)
    for number in (1, 2):
        client = socket.create_connection(("127.0.0.1", listener.port))
        eventually(lambda number=number: len(seen) == number, 10)  # type: ignore[misc]  # mypy infers no lambda with a default
        client.close()
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


class Exhausted:
    """A listening socket in a process that is out of files, `times` times."""

    def __init__(self, sock: Any, times: int) -> None:
        self.sock, self.left = sock, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def _accept(self) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self.sock._accept()


def test_out_of_files_it_rests_and_goes_on(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def accept(sock: Any, address: str) -> None:
        seen.append(address)
        sock.close()

    listener = make(accept)
    exhausted = listener._sock = Exhausted(listener._sock, 1000)
    client = socket.create_connection(("127.0.0.1", listener.port))
    for tries in (1, 3):
        eventually(lambda tries=tries: exhausted.left <= 1000 - tries, 10)  # type: ignore[misc]  # mypy infers no lambda with a default
        # It does not spin: the watcher is level-triggered, and who waits goes on waiting.
        assert not listener._watcher.active
    exhausted.left = 0
    eventually(lambda: seen, 10)
    client.close()
    assert [record.getMessage() for record in caplog.records] == ["cannot accept"]


def test_a_listener_may_be_closed_while_it_rests(make: Make) -> None:
    listener = make(lambda sock, address: sock.close())
    listener._sock = Exhausted(listener._sock, 1000)
    client = socket.create_connection(("127.0.0.1", listener.port))
    eventually(lambda: listener._rest is not None, 10)
    listener.close()
    listener.close()
    client.close()


def test_a_shared_port_is_shared_and_another_is_not(make: Make) -> None:
    first = make(lambda sock, address: sock.close(), shared=True)
    second = make(lambda sock, address: sock.close(), shared=True, port=first.port)
    assert second.port == first.port
    alone = make(lambda sock, address: sock.close())
    with pytest.raises(ListenError, match=r"another program listens there; choose another port"):
        make(lambda sock, address: sock.close(), port=alone.port)


def test_an_address_of_another_machine_is_refused(make: Make) -> None:
    with pytest.raises(ListenError, match="no such address"):
        make(lambda sock, address: sock.close(), "203.0.113.77")


@pytest.mark.parametrize(
    ("given", "address"),
    [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("::", "::"), ("localhost", "127.0.0.1")],
)
def test_addresses_and_names_are_resolved(given: str, address: str) -> None:
    assert resolve(given) == address


# None that would be looked for in the network.
@pytest.mark.parametrize("given", ["", "[]", "no..such", "a" * 300])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ListenError, match="no such name; give an IP address"):
        resolve(given)


def test_addresses_are_shown_as_in_urls() -> None:
    assert [shown("127.0.0.1", 1), shown("::1", 2)] == ["127.0.0.1:1", "[::1]:2"]


@pytest.mark.parametrize(
    ("limits", "wanted", "possible", "soft"),
    [
        ((1024, 20_000), 500, 500, None),
        ((1024, 20_000), 15_000, 15_000, 15_256),
        ((1024, 4096), 15_000, 3840, 4096),
        ((1024, -1), 15_000, 15_000, 15_256),
        ((-1, -1), 15_000, 15_000, None),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_allowed(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], wanted: int, possible: int, soft: int | None
) -> None:
    raised: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, new: raised.append(new[0]))
    assert service._connections_possible(wanted) == possible
    assert raised == ([] if soft is None else [soft])


def run_edge(*options: str) -> "subprocess.CompletedProcess[str]":
    command = Path(sys.executable).parent / "headwater-edge"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER", "HONCHO"))}
    return subprocess.run(
        [str(command), "serve", "--base-port", str(free_base_port()), *options],
        capture_output=True,
        text=True,
        timeout=30 * TIME_FACTOR,
        env=env,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--listen", "0.0.0.0"), "--listen 0.0.0.0: others than this machine would reach it"),
        (("--listen", "::"), "give --open to serve anyone"),
        (("--listen", "no..such"), "knows no such name"),
        (("--listen", "203.0.113.77", "--open"), "no such address"),
        (("--node-id", "edge-101"), "give --own-port"),
        (("--proxy-protocol",), "Give --trust NETWORK"),
        (("--tls-cert", "no.pem", "--tls-key", "no.key"), "no.pem: No such file or directory"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(options: tuple[str, ...], text: str) -> None:
    done = run_edge(*options)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_port_in_use_is_one_line_and_status_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_edge("--own-port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "another program listens there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_none_is_refused() -> None:
    done = run_edge("--rtmp-port", "70000")
    assert done.returncode == 2
    assert "70000 is not in the range" in done.stderr
