"""Who may connect, publish and play: networks, signed tokens, and what an HTTP server of the operator says."""

from headwater_edge.auth.asked import Asked, Verdict
from headwater_edge.auth.authentication import Authentication
from headwater_edge.auth.redacting import redacted

__all__ = ["Asked", "Authentication", "Verdict", "redacted"]
