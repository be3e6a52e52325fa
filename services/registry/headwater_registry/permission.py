"""Who may ask the registry what, where keys say who asks (CURVE is on)."""

from typing import Any

from headwater_bus.control import (
    EpochSeen,
    Grants,
    HandOver,
    Leave,
    PutSettings,
    Refused,
    Register,
    Release,
    Renew,
    Suspect,
)

_ROLES: dict[type, str] = {
    Grants: "balancer",
    PutSettings: "balancer",
    HandOver: "origin",
    Release: "origin",
    EpochSeen: "origin",
}


def refusal(user: str | None, message: Any) -> Refused | None:
    """Refused where `user` (the name on the caller's key; None on a plain socket, whom only this machine reaches) may not ask
    this. That an origin speaks only of groups that are its own is seen to by the table."""
    if user is None:
        return None
    kind = type(message).__name__
    if isinstance(message, Register | Renew | Leave) and message.node_id != user:
        return Refused("not-allowed", f"{kind} for {message.node_id[:64]}: the key is {user}'s")
    if isinstance(message, Suspect) and user.startswith("operator-"):
        return Refused("not-allowed", f"{kind}: only nodes may, the key is {user}'s")
    role = _ROLES.get(type(message))
    if role is not None and not user.startswith(f"{role}-"):
        return Refused(
            "not-allowed", f"{kind}: only a node with the key of a {role}-NAME may, this one is {user}'s"
        )
    return None
