"""Certificates, which are read again when their files change."""

import signal
import ssl
from pathlib import Path
from typing import Any

import gevent
from headwater_bus.logs import get_log

_log = get_log("edge")
_LOOK_S = 2.0
_Stamps = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """A certificate or key that cannot be used; the text is for the operator."""


class TlsStore:
    """A certificate chain and its key, as they are in their files (PEM). `context` is for new connections; those that there are
    keep the one that they began with. Raises TlsError."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._loaded = self._stamps()
        self._changed = self._loaded
        self.context = _context(*self._files)
        self._timer: Any = None
        self._signal: Any = None

    def watch(self, loop: Any) -> None:
        """Look at the files from now on, and at once on SIGHUP."""
        self._timer = loop.timer(_LOOK_S, _LOOK_S)
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
        """Read the files again when they have changed, and then stayed as they are until the next look: certificate and key are
        replaced one after the other. The event loop calls this: nothing may escape."""
        stamps = self._stamps()
        settled = stamps == self._changed
        self._changed = stamps
        if settled and stamps != self._loaded:
            self.reload()

    def reload(self) -> None:
        """Read the files again now. If they cannot be used, what was read before stays."""
        self._loaded = self._stamps()
        try:
            self.context = _context(*self._files)
        except TlsError as error:
            _log.error("certificate not loaded, the one before stays", error=str(error))
        else:
            _log.info("certificate loaded", file=str(self._files[0]))

    def _stamps(self) -> _Stamps | None:
        """What tells whether the files have changed; None: they are not there."""
        try:
            stats = [path.stat() for path in self._files]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


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
