"""An HTTP server that says who may connect, publish and play; each path answers in its own way.

python -m support.callback_server PORT
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import gevent
from gevent.event import Event
from gevent.server import StreamServer

_STATUSES = {"/allow": 200, "/created": 201, "/deny": 403, "/redirect": 302, "/error": 500}
_RAW = {
    "/rubbish": b"220 mail.example ESMTP\r\n",
    "/cut": b"HTTP/1.",
    "/headless": b"HTTP/1.1 200 OK\r\n",
    "/nothing": b"",
}


@dataclass(frozen=True)
class Form:
    """A request: its path, and what was posted, in order."""

    path: str
    fields: list[tuple[str, str]]
    content_type: str

    def __getitem__(self, name: str) -> str:
        (value,) = [value for key, value in self.fields if key == name]
        return value


class CallbackServer:
    """Answers 403 to what it does not know. `/slow` never answers, `/drip` a byte at a time, `/long` more than is read, `/named`
    allows the stream `cam`, `/held` waits for `release`, `/once` closes its connection after an answer that does not say so,
    `/impatient` says 408 unasked, after its answer and `release`."""

    def __init__(self, port: int = 0, **tls: Any) -> None:
        self._server = StreamServer(("127.0.0.1", port), self._serve, **tls)
        self.forms: list[Form] = []
        self.connections = self.open = self.at_once = self.most_at_once = 0
        self.release = Event()
        self._scheme = "https" if tls else "http"

    def __enter__(self) -> "CallbackServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.stop(timeout=0)

    @property
    def port(self) -> int:
        port = self._server.server_port
        assert port is not None
        return port

    @property
    def url(self) -> str:
        host = "localhost" if self._scheme == "https" else "127.0.0.1"
        return f"{self._scheme}://{host}:{self.port}"

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def _serve(self, sock: Any, _: object) -> None:
        self.connections += 1
        self.open += 1
        try:
            with sock.makefile("rb") as reader:
                while self._answer(sock, reader):
                    pass
        except OSError:
            pass
        finally:
            self.open -= 1
            sock.close()

    def _answer(self, sock: Any, reader: Any) -> bool:
        """Whether the connection goes on."""
        start = reader.readline()
        if not start:
            return False
        headers: dict[str, str] = {}
        while line := reader.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = reader.read(int(headers["content-length"])).decode()
        path = start.decode().split(" ")[1].partition("?")[0]
        form = Form(path, parse_qsl(body, keep_blank_values=True), headers.get("content-type", ""))
        self.forms.append(form)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self._reply(sock, form, reader)
        finally:
            self.at_once -= 1

    def _reply(self, sock: Any, form: Form, reader: Any) -> bool:
        path = form.path
        if path in _RAW:
            sock.sendall(_RAW[path])
            return False
        if path == "/slow":
            return bool(reader.read(1))
        if path == "/drip":
            for _ in range(10_000):
                sock.sendall(b"H")
                gevent.sleep(0.01)
            return False
        if path == "/held":
            self.release.wait()
        if path == "/long":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 70_000)
            return True
        status = (
            200
            if path in ("/held", "/once", "/impatient") or (path == "/named" and form["name"] == "cam")
            else 403
        )
        status = _STATUSES.get(path, status)
        sock.sendall(
            f"HTTP/1.1 {status} As it is\r\nLocation: /allow\r\nContent-Length: 2\r\n\r\nok".encode()
        )
        if path == "/impatient":
            # Not with the answer: that would be read with it.
            self.release.wait()
            sock.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        return path != "/once"


def main() -> None:
    """Serve until it is killed."""
    server = CallbackServer(int(sys.argv[1]))
    run: Callable[[], None] = server.serve_forever
    run()


if __name__ == "__main__":
    main()
