"""A small HTTP server, which stands for an edge behind a balancer: it says which server took which request.

python -m support.small_http PORT NAME
"""

import sys

from gevent.server import StreamServer
from gevent.socket import socket

_READ_BYTES = 256 * 1024


class _Ended(Exception):
    """The other side has closed the connection."""


def _request(sock: socket, data: bytes) -> tuple[str, bytes, bytes]:
    """Target and body of the next request, and what was read behind it."""
    while b"\r\n\r\n" not in data:
        data += _received(sock)
    head, _, data = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    size = int(headers.get("content-length", 0))
    while len(data) < size:
        data += _received(sock)
    return lines[0].split(" ")[1], data[:size], data[size:]


def _received(sock: socket) -> bytes:
    data = sock.recv(_READ_BYTES)
    if not data:
        raise _Ended
    return bytes(data)


def _serve(name: str, sock: socket) -> None:
    data = b""
    try:
        while True:
            target, body, data = _request(sock, data)
            answer = f"{name} {target} {len(body)}".encode()
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\nContent-Length: %d\r\n\r\n%b"
                % (len(answer), answer)
            )
    except (_Ended, OSError):
        sock.close()


def main() -> None:
    """Serve until it is killed."""
    port, name = int(sys.argv[1]), sys.argv[2]
    StreamServer(("127.0.0.1", port), lambda sock, _: _serve(name, sock)).serve_forever()


if __name__ == "__main__":
    main()
