"""The publisher's grace: for whom a name is kept whose publisher has gone without a goodbye."""

import hashlib
from dataclasses import dataclass

PROOF_BYTES = 16


def publisher_proof(session_proof: bytes, query: str) -> bytes:
    """Who publishes with the same one is the same publisher: what the session shows, with what stands behind the name.
    Empty for one that shows nothing: it is like no other."""
    if not session_proof and not query:
        return b""
    hashed = hashlib.sha256(len(session_proof).to_bytes(4, "big") + session_proof)
    hashed.update(query.encode(errors="surrogatepass"))
    return hashed.digest()[:PROOF_BYTES]


@dataclass(frozen=True, slots=True)
class Reserved:
    """A name is kept for the publisher with this proof, `until`, in monotonic seconds."""

    proof: bytes
    until: float
