"""The Headwater origin: runs applications. What application authors use is exported here."""

from headwater_origin.application import Access, Application, remote
from headwater_origin.client import Client
from headwater_origin.errors import (
    CallError,
    ClientCallError,
    ClientCallFailed,
    ClientCallTimeout,
    ClientGone,
    Reject,
)
from headwater_origin.object_view import SharedObjectView

__all__ = [
    "Access",
    "Application",
    "CallError",
    "Client",
    "ClientCallError",
    "ClientCallFailed",
    "ClientCallTimeout",
    "ClientGone",
    "Reject",
    "SharedObjectView",
    "remote",
]
