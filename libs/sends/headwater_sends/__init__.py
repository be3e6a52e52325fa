"""The same bytes to many sockets: what a fan-out spends nearly all of its time with.

The loop is there twice: here, and in C (`_native.c`) where that is compiled (docs/decisions/0029). Beside the system call a send
costs 0.7 µs in Python, for the most part the call itself and the interpreter's lock, and nothing in C.
"""

import os
from array import array
from typing import Final

__all__ = ["COMPILED", "send_to_all"]


def _send_to_all(descriptors: "array[int]", data: bytes) -> list[tuple[int, int]]:
    """Write to non-blocking stream sockets. `descriptors`: their file descriptors, as C's int (`array("i")`); whoever closes a
    socket takes it out first, as its number may be another one's at once. Raises nothing for a socket.

    Returns those that did not take all, as (place, bytes that it took) or (place, -errno): 0 bytes, where it is full.
    """
    write, size = os.write, len(data)
    odd: list[tuple[int, int]] = []
    for place, descriptor in enumerate(descriptors):
        try:
            sent = write(descriptor, data)
        except (BlockingIOError, InterruptedError):
            odd.append((place, 0))
        except OSError as error:
            odd.append((place, -error.errno))  # type: ignore[operator]  # the system's errors have one
        else:
            if sent != size:
                odd.append((place, sent))
    return odd


try:
    from headwater_sends._native import send_to_all
except ImportError:
    send_to_all = _send_to_all

COMPILED: Final = send_to_all is not _send_to_all
"""Whether the loop is the one in C."""
