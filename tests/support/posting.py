"""Clients that post through a balancer as RTMPT clients do: one request after the other, on one connection."""

import time
from dataclasses import dataclass, field

import gevent
from gevent.socket import create_connection, socket

from support.balancers import Address

_SIZES = (1, 2_000, 40_000, 300_000)
_PATIENCE_S = 30.0


@dataclass(slots=True)
class Tally:
    """What came of all requests. `moves`: how often the requests of a client went to another server than the one before."""

    answered: int = 0
    closed: int = 0
    statuses: list[str] = field(default_factory=list)
    """Of answers other than 200."""
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    moves: int = 0
    servers: dict[str, int] = field(default_factory=dict)


class Posting:
    """`clients` of them, from `start` until `stop`."""

    def __init__(self, address: Address, clients: int, pause_s: float = 0.0) -> None:
        self._address, self._pause_s = address, pause_s
        self.tally = Tally()
        self._ending = False
        self._jobs = [
            gevent.Greenlet(self._run, f"session-{number:04}-of-a-client") for number in range(clients)
        ]

    def start(self) -> "Posting":
        """Begin."""
        for job in self._jobs:
            job.start()
        return self

    def stop(self) -> Tally:
        """End after the requests under way."""
        self._ending = True
        gevent.joinall(self._jobs, raise_error=True)
        return self.tally

    def _run(self, session: str) -> None:
        sock: socket | None = None
        number, last = 0, ""
        while not self._ending:
            number += 1
            size = _SIZES[number % len(_SIZES)]
            began_s = time.monotonic()
            try:
                sock = sock or create_connection(self._address, timeout=_PATIENCE_S)
                status, headers, answer = post(sock, f"/send/{session}/{number}", bytes(size))
            except OSError:
                # As a client that repeats it would.
                self.tally.closed += 1
                number -= 1
                if sock is not None:
                    sock.close()
                    sock = None
                gevent.sleep(0.02)
                continue
            took_s = time.monotonic() - began_s
            self.tally.slowest_s = max(took_s, self.tally.slowest_s)
            if "connection: close" in (line.lower() for line in headers):
                sock.close()
                sock = None
            if status != "HTTP/1.1 200 OK":
                self.tally.statuses.append(status)
                continue
            self.tally.answered += 1
            server, _, rest = answer.decode().partition(" ")
            if rest != f"/send/{session}/{number} {size}":
                self.tally.wrong.append(answer.decode())
            self.tally.servers[server] = self.tally.servers.get(server, 0) + 1
            self.tally.moves += last not in ("", server)
            last = server
            gevent.sleep(self._pause_s)
        if sock is not None:
            sock.close()


def post(
    sock: socket, target: str, body: bytes, headers: dict[str, str] | None = None
) -> tuple[str, list[str], bytes]:
    """Status line, header lines and body of the answer. Raises OSError when the connection ends before it is there."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(sock)
    lines, _, data = data.partition(b"\r\n\r\n")
    status, *said = lines.decode().split("\r\n")
    (size,) = [int(line[15:]) for line in said if line.lower().startswith("content-length:")]
    while len(data) < size:
        data += _more(sock)
    return status, said, data


def _more(sock: socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionResetError("closed")
    return bytes(data)
