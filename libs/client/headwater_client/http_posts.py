"""HTTP requests, one after the other, on a connection that is kept as long as the server keeps it."""

import time
from dataclasses import dataclass

import gevent
from gevent.socket import socket as Socket  # noqa: N812
from headwater_rtmp.rtmpt import CONTENT_TYPE
from httptools import HttpParserError, HttpResponseParser

from headwater_client.dialing import Dialer, error_text

_RECEIVE_BYTES = 64 * 1024
_MOST_ANSWER_BYTES = 16 * 1024 * 1024
"""With its head."""


class PostFailed(Exception):
    """There is no answer; what the server has done is not known."""


class NobodyThere(PostFailed):
    """There is no connection, so the server has done nothing."""


@dataclass(frozen=True, slots=True)
class Response:
    """Of any status but 1xx."""

    status: int
    body: bytes


class HttpPosts:
    """Posts to one server. After a failure the connection is closed, and the next request makes a new one. Not for two greenlets
    at once."""

    __slots__ = ("_dialer", "_host", "_sock")

    def __init__(self, dialer: Dialer, default_port: int) -> None:
        self._dialer = dialer
        host = f"[{dialer.host}]" if ":" in dialer.host else dialer.host
        self._host = host if dialer.port == default_port else f"{host}:{dialer.port}"
        self._sock: Socket | None = None

    def post(self, target: str, body: bytes, timeout_s: float) -> Response:
        """Post, and wait for the answer for so long, connecting included. Raises PostFailed."""
        until = time.monotonic() + timeout_s
        if self._sock is None:
            try:
                self._sock = self._dialer.dial(timeout_s)
            except OSError as error:
                raise NobodyThere(error_text(error)) from error
        # In one piece: a head alone would travel alone.
        request = (
            f"POST {target} HTTP/1.1\r\nHost: {self._host}\r\nUser-Agent: headwater-client\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Connection: Keep-Alive\r\nCache-Control: no-cache\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        keep = False
        try:
            with gevent.Timeout(
                max(0.0, until - time.monotonic()), PostFailed(f"no answer within {timeout_s:g} s")
            ):
                self._sock.sendall(request)
                reader = _ResponseReader()
                while not reader.complete:
                    data = self._sock.recv(_RECEIVE_BYTES)
                    if not data:
                        raise PostFailed("the connection was closed before the answer was there")
                    reader.feed(data)
            keep = reader.keeps_alive
            return Response(reader.status, bytes(reader.body))
        except OSError as error:
            raise PostFailed(f"connection lost: {error_text(error)}") from error
        finally:
            if not keep:
                self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()


class _ResponseReader:
    """One answer. The parser calls the `on_` methods."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._received_bytes = 0
        self.body = bytearray()
        self.status = 0
        self.complete = self.keeps_alive = False

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises PostFailed for what is no answer, or too long."""
        if self.complete:
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self.complete:
                raise PostFailed(f"the answer is no HTTP: {error}") from error
        self._received_bytes += len(data)
        if self._received_bytes > _MOST_ANSWER_BYTES:
            raise PostFailed(f"an answer of more than {_MOST_ANSWER_BYTES} bytes")

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self.complete:
            self.status, self.complete = status, True
            self.keeps_alive = self._parser.should_keep_alive()
