"""The handshake (RTMP 1.0, section 5.2) of either side, simple or with digests."""

import os
from collections.abc import Callable
from typing import Any

from headwater_rtmp import handshake_digest as digests
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError

BLOCK_SIZE = digests.BLOCK_SIZE
VERSION = 3
_VERSION_NAMES = {
    6: " (RTMPE)",
    8: " (RTMPE with XTEA)",
    9: " (RTMPE with Blowfish)",
    0x16: " (TLS)",
    **dict.fromkeys(b"GHOP", " (HTTP)"),
}
_LATEST_VERSION = 31
"""Up to here version numbers are reserved for RTMP to come (5.2.2)."""
_CLIENT_VERSION = bytes((9, 0, 124, 2))
"""A Flash Player that knew digests; servers look for them from 9.0.115 on."""
_SERVER_VERSION = bytes((4, 5, 0, 1))
"""A Flash Media Server that knew digests; FFmpeg looks for them from 3 on."""
_ZERO = bytes(4)
_SERVER_RANDOM = os.urandom(BLOCK_SIZE)


def server_random(size: int) -> bytes:
    """Random bytes that all clients of this process get, `BLOCK_SIZE` at most: they need be neither secret nor others each time
    (5.2.3), and 1.5 KB of new ones take longer than all else of a handshake."""
    return _SERVER_RANDOM[:size]


def _check_version(seen: int, where: str, later: bool = False) -> None:
    """`later`: versions to come will do, since ours is what they are answered with (5.2.2); what is known not to be RTMP will
    not."""
    name = _VERSION_NAMES.get(seen, "")
    if seen != VERSION and (name or not later or not VERSION < seen <= _LATEST_VERSION):
        raise RemoteProtocolError(f"{where}: RTMP version {seen}{name}, expected {VERSION} (offset 0)")


class _Handshake:
    __slots__ = ("_buffer", "_random", "done", "rest")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._buffer = b""
        self.done = False
        self.rest = b""

    def _finish(self, used: int) -> None:
        self.done = True
        self.rest = self._buffer[used:]
        self._buffer = b""

    def _refuse_more(self) -> None:
        if self.done:
            raise LocalProtocolError(
                "bytes fed to a handshake that is done, expected them at the chunk reader"
            )


class ServerHandshake(_Handshake):
    """C0 C1 in, S0 S1 S2 out, C2 in. `random(n)` gives n bytes. `digest_scheme` is 0, 1, or None for a simple one.

    C2 is not checked: RTMP 1.0 asks for no check, and encoders send what they like.
    """

    __slots__ = ("_answered", "digest_scheme")

    def __init__(self, random: Callable[[int], bytes] = server_random) -> None:
        super().__init__(random)
        self._answered = False
        self.digest_scheme: int | None = None

    def feed(self, data: bytes) -> bytes:
        """The bytes to send. Raises RemoteProtocolError as soon as C0 asks for a version that is not ours or later, or
        for encryption."""
        self._refuse_more()
        self._buffer += data
        out = b""
        if not self._answered:
            if self._buffer:
                _check_version(self._buffer[0], "C0", later=True)
            if len(self._buffer) < 1 + BLOCK_SIZE:
                return b""
            out = self._answer(self._buffer[1 : 1 + BLOCK_SIZE])
            self._buffer = self._buffer[1 + BLOCK_SIZE :]
            self._answered = True
        if len(self._buffer) >= BLOCK_SIZE:
            self._finish(BLOCK_SIZE)
        return out

    def dump(self) -> list[Any]:
        """What another process needs to go on with it, before it is done; only ints, bytes, bools and None."""
        return [self._answered, self.digest_scheme, self._buffer]

    @classmethod
    def load(cls, dumped: list[Any], random: Callable[[int], bytes] = server_random) -> "ServerHandshake":
        """What `dump` gave. Raises ValueError or TypeError."""
        handshake = cls(random)
        handshake._answered, handshake.digest_scheme, handshake._buffer = dumped[:3]
        return handshake

    def _answer(self, c1: bytes) -> bytes:
        found = None if c1[4:8] == _ZERO else digests.find_digest(c1, digests.CLIENT_TEXT)
        version = bytes((VERSION,))
        if found is None:
            return version + bytes(8) + self._random(BLOCK_SIZE - 8) + c1
        self.digest_scheme, digest = found
        block = _ZERO + _SERVER_VERSION + self._random(BLOCK_SIZE - 8)
        s1, _ = digests.sign_block(block, self.digest_scheme, digests.SERVER_TEXT)
        s2 = digests.sign_answer(self._random(BLOCK_SIZE), digests.SERVER_KEY, digest)
        return version + s1 + s2


class ClientHandshake(_Handshake):
    """C0 C1 out with the first `feed` (of no bytes, if you like), S0 S1 S2 in, C2 out.

    With `digest` C1 carries one (scheme 0); `digest_scheme` is then the server's scheme, or None when the server
    answered without digests, and a simple C2 goes out.
    """

    __slots__ = ("_digest", "_started", "_wants_digest", "digest_scheme")

    def __init__(self, digest: bool = False, random: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(random)
        self._wants_digest = digest
        self._digest = b""
        self._started = False
        self.digest_scheme: int | None = None

    def feed(self, data: bytes) -> bytes:
        """The bytes to send. Raises RemoteProtocolError at another version, or at an S2 that is not for our C1."""
        self._refuse_more()
        out = b""
        if not self._started:
            self._started = True
            out = bytes((VERSION,)) + self._c1()
        self._buffer += data
        if self._buffer:
            _check_version(self._buffer[0], "S0")
        size = 1 + 2 * BLOCK_SIZE
        if len(self._buffer) < size:
            return out
        s1 = self._buffer[1 : 1 + BLOCK_SIZE]
        out += self._c2(s1, self._buffer[1 + BLOCK_SIZE : size])
        self._finish(size)
        return out

    def _c1(self) -> bytes:
        if not self._wants_digest:
            return bytes(8) + self._random(BLOCK_SIZE - 8)
        block = _ZERO + _CLIENT_VERSION + self._random(BLOCK_SIZE - 8)
        c1, self._digest = digests.sign_block(block, 0, digests.CLIENT_TEXT)
        return c1

    def _c2(self, s1: bytes, s2: bytes) -> bytes:
        found = (
            digests.find_digest(s1, digests.SERVER_TEXT) if self._wants_digest and s1[4:8] != _ZERO else None
        )
        if found is None:
            return s1
        self.digest_scheme, server_digest = found
        if not digests.answer_is_valid(s2, digests.SERVER_KEY, self._digest):
            raise RemoteProtocolError(
                f"S2 with another signature, expected one for our C1 (offset {1 + BLOCK_SIZE})"
            )
        return digests.sign_answer(self._random(BLOCK_SIZE), digests.CLIENT_KEY, server_digest)
