"""Connections to a server, plain or within TLS."""

import socket as constants
import time
from dataclasses import dataclass

from gevent import ssl
from gevent.socket import create_connection
from gevent.socket import socket as Socket  # noqa: N812

_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Whom to believe. `ca_file`: certificates (PEM) of those who may sign the server's, instead of the system's. `insecure`:
    take any certificate, of anybody: who is at the other end is not known then."""

    ca_file: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later. Raises OSError for a file that cannot be read or holds no certificates."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Dialer:
    """Connects to one address as often as it is asked; within TLS where there are settings for it. Raises OSError as
    `TlsSettings.context` does."""

    __slots__ = ("_context", "host", "port")

    def __init__(self, host: str, port: int, tls: TlsSettings | None = None) -> None:
        self.host, self.port = host, port
        self._context = None if tls is None else tls.context()

    def dial(self, timeout_s: float) -> Socket:
        """A connection, with the TLS handshake done; it has no timeout any more. Raises OSError."""
        until = time.monotonic() + timeout_s
        sock = create_connection((self.host, self.port), timeout=max(_LEAST_S, timeout_s))
        try:
            sock.setsockopt(constants.IPPROTO_TCP, constants.TCP_NODELAY, 1)
            if self._context is not None:
                sock.settimeout(max(_LEAST_S, until - time.monotonic()))
                sock = self._context.wrap_socket(sock, server_hostname=self.host)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock


def error_text(error: OSError) -> str:
    """What an error says, without numbers and places in a source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "timed out"
    return error.strerror or str(error) or type(error).__name__
