"""Waiting until a server under test takes clients, and while it serves them."""

import socket
import time
from collections.abc import Callable

from headwater_rtmp.errors import RemoteProtocolError

from bench.errors import BenchError
from bench.session import Mode, Session, SessionError, Target

_ANSWER_S = 5.0
_RETRY_S = 0.1
_LOOK_S = 0.1


def wait_for(target: Target, check: Callable[[], None], wait_s: float = 30.0) -> None:
    """Returns when a connect there is accepted. `check` raises when the server died. Raises BenchError."""
    deadline = time.monotonic() + wait_s
    while True:
        check()
        try:
            return _connect(target)
        except (OSError, SessionError, RemoteProtocolError) as error:
            if time.monotonic() > deadline:
                text = f"no client can connect within {wait_s:.0f} s: {error}"
                raise BenchError(text, failed=True) from error
            time.sleep(_RETRY_S)


def _connect(target: Target) -> None:
    with socket.create_connection((target.host, target.port), timeout=_ANSWER_S) as sock:
        session = Session(target, Mode.CONNECT)
        sock.sendall(session.start())
        while not session.started:
            data = sock.recv(65536)
            if not data:
                raise SessionError("closed by the server")
            sock.sendall(session.feed(data))


def pass_time(seconds: float, progress: Callable[[float], None], *looks: Callable[[], object]) -> None:
    """Let time pass, and look now and then: each look raises BenchError as soon as the server or the load fails."""
    start_s = time.monotonic()
    while (left_s := start_s + seconds - time.monotonic()) > 0:
        time.sleep(min(left_s, _LOOK_S))
        progress(time.monotonic() - start_s)
        for look in looks:
            look()
