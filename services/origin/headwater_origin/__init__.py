"""The Headwater origin: runs applications. What application authors use is exported here.

Each name is imported when it is first asked for: the command line has to set up its process before gevent is there.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater_origin.application import Application, remote
    from headwater_origin.bandwidth import Bandwidth
    from headwater_origin.client import Client
    from headwater_origin.errors import (
        CallError,
        ClientCallError,
        ClientCallFailed,
        ClientCallTimeout,
        ClientGone,
        ObjectUnavailable,
        Redirect,
        Reject,
        StoreUnavailable,
    )
    from headwater_origin.objects.access import Access
    from headwater_origin.objects.view import SharedObjectView
    from headwater_origin.rooms import Room
    from headwater_origin.timers import Timer

__all__ = [
    "Access",
    "Application",
    "Bandwidth",
    "CallError",
    "Client",
    "ClientCallError",
    "ClientCallFailed",
    "ClientCallTimeout",
    "ClientGone",
    "ObjectUnavailable",
    "Redirect",
    "Reject",
    "Room",
    "SharedObjectView",
    "StoreUnavailable",
    "Timer",
    "remote",
]

_ELSEWHERE = {
    "Access": "objects.access",
    "Application": "application",
    "Bandwidth": "bandwidth",
    "Client": "client",
    "Room": "rooms",
    "SharedObjectView": "objects.view",
    "Timer": "timers",
    "remote": "application",
}
"""Modules of the names; of all others it is `errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}"), name)
