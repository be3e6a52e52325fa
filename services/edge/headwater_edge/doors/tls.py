"""Certificates, which are read again when their files change."""

import signal
import ssl
from pathlib import Path
from typing import Any

import gevent
from headwater_bus.logs import get_log

from headwater_edge.watched_files import SETTLED_S, WatchedFiles

_log = get_log("edge")


class TlsError(Exception):
    """A certificate or key that cannot be used; the text is for the operator."""


class TlsStore:
    """A certificate chain and its key, as they are in their files (PEM). `context` is for new connections; those that there are
    keep the one that they began with. Raises TlsError."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._watched = WatchedFiles(self._files)
        self.context = _context(*self._files)
        self._timer: Any = None
        self._signal: Any = None

    def watch(self, loop: Any) -> None:
        """Look at the files from now on, and at once on SIGHUP."""
        self._timer = loop.timer(SETTLED_S, SETTLED_S)
        self._timer.start(self.look)
        self._signal = gevent.signal_handler(signal.SIGHUP, self.reload)

    def close(self) -> None:
        """Look at them no more. Calling it again does nothing."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
            self._signal.cancel()

    def look(self) -> None:
        """Read the files again when they have changed. The event loop calls this: nothing may escape."""
        if self._watched.changed():
            self._load()

    def reload(self) -> None:
        """Read the files again now."""
        self._watched.reading()
        self._load()

    def _load(self) -> None:
        """If they cannot be used, what was read before stays."""
        try:
            self.context = _context(*self._files)
        except TlsError as error:
            _log.error("certificate not loaded, the one before stays", error=str(error))
        else:
            _log.info("certificate loaded", file=str(self._files[0]))


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    for path, what in ((certificate, "a certificate chain"), (key, "a private key")):
        try:
            path.open("rb").close()
        except OSError as error:
            raise TlsError(f"{path}: {error.strerror}; expected {what}, PEM") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        raise TlsError(
            f"{certificate}, {key}: {reason}; expected a certificate chain and its private key, PEM"
        ) from error
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask at the terminal.
    raise ValueError("the key is encrypted, expected one without a pass phrase")
