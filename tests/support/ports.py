"""Free ports for clusters of processes."""

import random
import socket

_SPAN = 40
"""Ports that a test cluster counts from its base: see docs/operations.md."""
_LOWEST, _HIGHEST = 12_000, 31_000
"""Below the range from which the kernel gives ports to outgoing connections."""


def free_base_port() -> int:
    """A base port whose ports are all free now."""
    chance = random.SystemRandom()
    for _ in range(200):
        base = chance.randrange(_LOWEST, _HIGHEST, _SPAN)
        if all(is_free(port) for port in range(base, base + _SPAN)):
            return base
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    """Whether nobody listens there now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
