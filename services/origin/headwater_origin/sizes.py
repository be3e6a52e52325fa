"""What envelopes that wait take, about."""

from typing import Any

_ENVELOPE_BYTES = 200
"""Beside the payload."""


def payload_bytes(envelope: Any) -> int:
    """Of its payload; 0 of a kind that has none."""
    return len(getattr(envelope, "payload", b""))


def envelope_bytes(envelope: Any) -> int:
    """Of all of it."""
    return _ENVELOPE_BYTES + payload_bytes(envelope)
