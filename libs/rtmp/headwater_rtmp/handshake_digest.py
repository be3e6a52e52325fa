"""The digests inside handshake blocks, as Flash Player 9 and later and several encoders use them.

Not part of RTMP 1.0. A block is C1 or S1, 1536 bytes: time (4), version (4, not zero), then two areas of 764 bytes,
one with a key and one with the digest; scheme 0 has the digest's area first, scheme 1 second. The area's first 4 bytes
summed, modulo 728, say where behind them the 32 bytes of the digest stand: HMAC-SHA256 of the block without them.
C2 and S2 end in a signature: HMAC of their first 1504 bytes, under a key derived from the digest they answer.
"""

import hmac

BLOCK_SIZE = 1536
DIGEST_SIZE = 32
_AREAS = (8, 772)
_SIGNED_SIZE = BLOCK_SIZE - DIGEST_SIZE
_SUFFIX = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")

CLIENT_TEXT = b"Genuine Adobe Flash Player 001"
SERVER_TEXT = b"Genuine Adobe Flash Media Server 001"
CLIENT_KEY = CLIENT_TEXT + _SUFFIX
SERVER_KEY = SERVER_TEXT + _SUFFIX


def _sha256(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def digest_offset(block: bytes, scheme: int) -> int:
    """Where the digest stands in a block of the scheme (0 or 1)."""
    area = _AREAS[scheme]
    return sum(block[area : area + 4]) % 728 + area + 4


def find_digest(block: bytes, text: bytes) -> tuple[int, bytes] | None:
    """The scheme whose digest validates under `text`, and the digest; None: neither does."""
    for scheme in (0, 1):
        at = digest_offset(block, scheme)
        digest = block[at : at + DIGEST_SIZE]
        if hmac.compare_digest(_sha256(text, block[:at] + block[at + DIGEST_SIZE :]), digest):
            return scheme, digest
    return None


def sign_block(block: bytes, scheme: int, text: bytes) -> tuple[bytes, bytes]:
    """The block with its digest in place, and the digest."""
    at = digest_offset(block, scheme)
    digest = _sha256(text, block[:at] + block[at + DIGEST_SIZE :])
    return block[:at] + digest + block[at + DIGEST_SIZE :], digest


def signature(answer: bytes, key: bytes, digest: bytes) -> bytes:
    """The last 32 bytes of a C2 or S2 (`answer`, at least its first 1504 bytes) that answers `digest`."""
    return _sha256(_sha256(key, digest), answer[:_SIGNED_SIZE])


def sign_answer(random: bytes, key: bytes, digest: bytes) -> bytes:
    """A C2 or S2 of 1536 bytes that answers `digest`."""
    return random[:_SIGNED_SIZE] + signature(random, key, digest)


def answer_is_valid(answer: bytes, key: bytes, digest: bytes) -> bool:
    """Whether a C2 or S2 answers `digest`."""
    return hmac.compare_digest(signature(answer, key, digest), answer[_SIGNED_SIZE:])
