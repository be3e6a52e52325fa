"""The log of connections and requests that are refused."""

from headwater_bus.logs import RateLimit, get_log

_log = get_log("edge")
_limit = RateLimit(1.0)
"""Anybody who reaches a port can cause these."""


def log_refusal(event: str, address: str, reason: str) -> None:
    """Log it, and how many there were since the last one that was logged."""
    if _limit.passes(event):
        _log.warning(event, address=address, reason=reason, more=_limit.suppressed(event))
