"""Sockets that get the same bytes."""

import _socket
import os
from array import array
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from headwater_sends import send_to_all

Owner = TypeVar("Owner")


class SharedSends(Generic[Owner]):
    """Non-blocking sockets with nothing queued, each by its owner, who is taken out before its socket is closed. Those of TLS,
    where each encrypts for itself, are sent to one by one; for all others nothing is touched but their numbers, as what the
    caches have lost meanwhile costs as much as Python does."""

    __slots__ = ("_descriptors", "_plain", "_sealed")

    def __init__(self) -> None:
        self._plain: dict[Owner, int] = {}
        """File descriptors."""
        self._descriptors: array[int] | None = None
        """The same, for the loop; None: they have changed."""
        self._sealed: dict[Owner, Callable[[bytes], int]] = {}

    def __len__(self) -> int:
        return len(self._plain) + len(self._sealed)

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._plain or owner in self._sealed

    def add(self, owner: Owner, sock: Any) -> None:
        """From now on it gets what is sent."""
        if isinstance(sock, _socket.socket):
            self._plain[owner] = sock.fileno()
            self._descriptors = None
        else:
            self._sealed[owner] = sock.send

    def discard(self, owner: Owner) -> bool:
        """It gets nothing any more; whether it was there."""
        if self._plain.pop(owner, None) is not None:
            self._descriptors = None
            return True
        return self._sealed.pop(owner, None) is not None

    def send(self, data: bytes) -> list[tuple[Owner, int | OSError]]:
        """Send to all. Returns those that did not take everything, with the bytes that they took, or the error."""
        descriptors = self._descriptors
        if descriptors is None:
            descriptors = self._descriptors = array("i", self._plain.values())
        odd: list[tuple[Owner, int | OSError]] = []
        if descriptors:
            found = send_to_all(descriptors, data)
            if found:
                owners = list(self._plain)
                odd = [
                    (owners[place], sent if sent >= 0 else OSError(-sent, os.strerror(-sent)))
                    for place, sent in found
                ]
        for owner, send in self._sealed.items():
            try:
                sent = send(data)
            except (BlockingIOError, InterruptedError):
                odd.append((owner, 0))
            except OSError as error:
                odd.append((owner, error))
            else:
                if sent != len(data):
                    odd.append((owner, sent))
        return odd
